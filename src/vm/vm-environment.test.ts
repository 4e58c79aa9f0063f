import { readdirSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import type { VmContext } from "./context.js";
import { ENVIRONMENT_FILE, writeEnvironment } from "./environment-file.js";
import { fakeContext, recordVm } from "./testing/fake-context.js";
import { changeEnvironment, checkNames, listEnvironment } from "./vm-environment.js";
import { decodeSpec } from "./vm-spec.js";

async function stoppedVm(): Promise<{ ctx: VmContext; directory: string }> {
  const ctx = fakeContext();
  const row = await recordVm(ctx, { status: "stopped" });
  const { directory } = decodeSpec(row.id, row.spec);
  await writeEnvironment(directory, { KEPT: "old" });
  return { ctx, directory };
}

vi.mock("node:fs", async (original) => {
  const actual = await original<typeof import("node:fs")>();
  return { ...actual, writeFileSync: vi.fn(actual.writeFileSync) };
});

const awkward = "two\nlines, \"double\" and 'single' quotes, a \\, a tab\t, ü 世界 🐧, trailing space ";

test("of a stopped VM is changed in its file alone, byte by byte, readable for its owner only", async () => {
  const { ctx, directory } = await stoppedVm();
  await changeEnvironment(ctx, "a1", (env) => ({ ...env, ADDED: awkward }));
  expect(await listEnvironment(ctx, "a1")).toEqual({ KEPT: "old", ADDED: awkward });
  expect(statSync(join(directory, ENVIRONMENT_FILE)).mode & 0o777).toBe(0o600);
  expect(readdirSync(directory).filter((name) => name.includes(".tmp"))).toEqual([]);
});

test("changes of many at once are all there", async () => {
  const { ctx } = await stoppedVm();
  const names = Array.from({ length: 50 }, (_, index) => `V${index}`);
  await Promise.all(names.map((name) => changeEnvironment(ctx, "a1", (env) => ({ ...env, [name]: name }))));
  expect(Object.keys(await listEnvironment(ctx, "a1")).sort()).toEqual(["KEPT", ...names].sort());
});

test.each([
  ["env.A", { A: "nul\0" }],
  ["env.A", { A: "half a pair \ud800" }],
  ["env", { "": "x" }],
  ["env", { "A\nB": "x" }],
  ["env", { "A=B": "x" }],
  ["env.A", { A: "x".repeat(128 * 1024) }],
  ["env", Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`A${index}`, "x".repeat(100_000)]))],
])("field %s is refused without showing its value, and nothing is changed", async (field, added) => {
  const { ctx } = await stoppedVm();
  const changing = changeEnvironment(ctx, "a1", (env) => ({ ...env, ...added }) as Record<string, string>);
  const error = await changing.catch((caught: unknown) => caught as Error);
  expect(error).toMatchObject({ code: "INVALID_CONFIG", details: { field, value: '"(hidden)"' } });
  expect(await listEnvironment(ctx, "a1")).toEqual({ KEPT: "old" });
});

test("a write that fails, or takes a part, leaves the old file and nothing else", async () => {
  const { ctx, directory } = await stoppedVm();
  const before = readFileSync(join(directory, ENVIRONMENT_FILE), "utf8");
  const names = readdirSync(directory).sort();
  vi.mocked(writeFileSync).mockImplementationOnce((file) => {
    writeSync(file as number, '{"KEPT":');
    throw Object.assign(new RangeError("no space left on device"), { code: "ENOSPC" });
  });
  const changing = changeEnvironment(ctx, "a1", (env) => ({ ...env, ADDED: "x".repeat(100_000) }));
  await expect(changing).rejects.toMatchObject({
    code: "STORAGE_FAILED",
    message: expect.stringContaining("no space left"),
  });
  const broken = changeEnvironment(ctx, "a1", () => {
    throw new RangeError("changed my mind");
  });
  await expect(broken).rejects.toThrow("changed my mind");
  expect(readFileSync(join(directory, ENVIRONMENT_FILE), "utf8")).toBe(before);
  expect(readdirSync(directory).sort()).toEqual(names);
  await changeEnvironment(ctx, "a1", (env) => ({ ...env, ADDED: "x".repeat(100_000) }));
  expect((await listEnvironment(ctx, "a1"))["ADDED"]).toHaveLength(100_000);
});

test("of a VM that is not there", async () => {
  const ctx = fakeContext();
  await expect(listEnvironment(ctx, "none")).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
  await expect(changeEnvironment(ctx, "none", (env) => env)).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
});

test("names to remove are texts", () => {
  expect(() => checkNames("A" as never)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
  expect(() => checkNames([""])).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
  expect(() => checkNames([])).not.toThrow();
});
