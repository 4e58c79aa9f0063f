import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import type { Sdk } from "./command.js";
import { withHooks } from "./load-hooks.js";

function moduleFile(text: string): string {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-hooks-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "hooks.mjs");
  writeFileSync(path, text);
  return path;
}

test("the hooks of the module are those of every VM; without the variable there are none", async () => {
  const use = vi.fn();
  const sdk = { SmolVM: { use } } as unknown as Sdk;
  expect(await withHooks(sdk, {})).toBe(sdk);
  expect(await withHooks(sdk, { SMOLVM_HOOKS: "" })).toBe(sdk);
  expect(use).not.toHaveBeenCalled();
  expect(await withHooks(sdk, { SMOLVM_HOOKS: moduleFile("export const hooks = { beforeRun: () => false };") })).toBe(
    sdk,
  );
  expect(use).toHaveBeenCalledWith({ beforeRun: expect.any(Function) });
});

test.each([
  ["exports none", "export const other = 1;"],
  ["does not parse", "export const hooks = {"],
  ["throws", "throw new Error('oops');"],
])("a module that %s ends the command line before anything runs", async (_what, text) => {
  const sdk = { SmolVM: { use: vi.fn() } } as unknown as Sdk;
  const loading = withHooks(sdk, { SMOLVM_HOOKS: moduleFile(text) });
  await expect(loading).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "SMOLVM_HOOKS" } });
});
