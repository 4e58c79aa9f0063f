import { beforeEach, expect, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import type { VmRow } from "../storage/vm-store.js";
import { updateEgress } from "./change-network.js";
import { findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { enforceOnRecord } from "./live-network.js";
import { closePort, exposePort, listPorts } from "./ports/change-ports.js";
import { fakeContext, recordVm, sleepingProcess, specOf } from "./testing/fake-context.js";
import { decodeSpec, encodeSpec, hasPolicy } from "./vm-spec.js";

let ctx: VmContext;

beforeEach(async () => {
  ctx = fakeContext();
  await recordVm(ctx, { status: "running" });
  ctx.store.vms.setSpec("a1", earlierRecord());
  ctx.store.resources.plan("a1", [
    { kind: "runtime", name: ctx.paths.runtimeDir },
    { kind: "process", name: "network" },
  ]);
});

/** As it was before a VM's egress could be said. */
function earlierRecord(): string {
  const { egress: _, rateLimitMbps: __, ...rest } = specOf(ctx, "a1", { networkMode: "user" });
  return JSON.stringify({ ...rest, ports: [{ hostAddress: "127.0.0.1", hostPort: 18_080, guestPort: 80 }] });
}

function enforce(row: VmRow, egress: "open" | "off"): Promise<void> {
  return enforceOnRecord(ctx, row, { ...decodeSpec("a1", row.spec), egress }, Deadline.after(1_000));
}

const refused = { code: "UNSUPPORTED", hint: expect.stringContaining("Stop the VM and start it again") };

test("a record of before egress could be said reads as open, and is told apart until it is written anew", () => {
  const text = findVm(ctx, "a1").spec;
  const spec = decodeSpec("a1", text);
  expect(spec).toEqual(specOf(ctx, "a1", { networkMode: "user" }));
  expect([hasPolicy(text), hasPolicy(encodeSpec(spec)), hasPolicy("no JSON"), hasPolicy("null")]).toEqual([
    false,
    true,
    false,
    false,
  ]);
});

test("what an earlier version started keeps its network, and is given no other policy", async () => {
  const guard = await sleepingProcess("netguard", "/");
  ctx.store.resources.setProcess("a1", "network", guard);
  const row = findVm(ctx, "a1");
  await expect(enforce(row, "open")).resolves.toBeUndefined();
  await expect(enforce(row, "off")).rejects.toMatchObject(refused);
});

test("a policy that it has anyway changes nothing on record, so that it is known as before", async () => {
  const guard = await sleepingProcess("netguard", "/");
  ctx.store.resources.setProcess("a1", "network", guard);
  const vmm = await sleepingProcess("qemu-system-x86_64", "/");
  ctx.store.resources.plan("a1", [{ kind: "process", name: "vmm" }]);
  ctx.store.resources.setProcess("a1", "vmm", vmm);
  const before = findVm(ctx, "a1").spec;
  await updateEgress(ctx, "a1", "open");
  await expect(updateEgress(ctx, "a1", "off")).rejects.toMatchObject(refused);
  expect(findVm(ctx, "a1").spec).toBe(before);
});

test("its ports are left to what it started, which no other may be added to or taken from", async () => {
  const guestPort = { guestPort: 81, hostPort: 0, hostAddress: "127.0.0.1" };
  const port = { ...guestPort, guestPort: 80, hostPort: 18_080 };
  const vmm = await sleepingProcess("qemu-system-x86_64", "/");
  ctx.store.resources.plan("a1", [{ kind: "process", name: "vmm" }]);
  ctx.store.resources.setProcess("a1", "vmm", vmm);
  ctx.store.ports.reserve("a1", [{ ...port, origin: "config" }]);
  expect(await listPorts(ctx, "a1")).toEqual([port]);
  await expect(exposePort(ctx, "a1", guestPort)).rejects.toMatchObject(refused);
  await expect(closePort(ctx, "a1", port)).rejects.toMatchObject(refused);
  expect(await listPorts(ctx, "a1")).toEqual([port]);
  expect(findVm(ctx, "a1").warnings).toEqual([]);
});

test("a guard of an earlier version that died is not replaced: its VMM would not find the new one", async () => {
  await expect(enforce(findVm(ctx, "a1"), "open")).rejects.toMatchObject(refused);
});
