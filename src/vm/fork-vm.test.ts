import { expect, test } from "vitest";
import { FORK_LIMIT, forkVm } from "./fork-vm.js";
import { fakeContext, recordVm, specOf } from "./testing/fake-context.js";

test.each([0, -1, 1.5, FORK_LIMIT + 1, Number.NaN, "2", null])(
  "%j children are refused by the field",
  async (count) => {
    const ctx = fakeContext();
    await expect(forkVm(ctx, "nobody", { count: count as number })).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "count", value: expect.anything() },
    });
  },
);

test("a VM that is not there, or does not run, has no children, and its record stays as it was", async () => {
  const ctx = fakeContext();
  await expect(forkVm(ctx, "nobody", { count: FORK_LIMIT })).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
  for (const status of ["created", "stopped", "error"] as const) {
    const id = `vm-${status}`;
    await recordVm(ctx, { id, status, spec: specOf(ctx, id) });
    await expect(forkVm(ctx, id)).rejects.toMatchObject({
      code: "INVALID_STATE",
      details: { status, helps: "start()" },
    });
    expect(ctx.store.vms.find(id)).toMatchObject({ status, move: undefined });
  }
  expect(ctx.store.captures.list()).toEqual([]);
});
