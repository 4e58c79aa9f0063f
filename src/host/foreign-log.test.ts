import { closeSync, existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { foreignLogTail, openForeignLog } from "./foreign-log.js";
import { runProgram } from "./process.js";

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-log-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

test("a log is added to, and its end is kept", async () => {
  const path = join(scratch(), "log");
  expect(await foreignLogTail(path)).toBe("");
  writeFileSync(path, "x".repeat(10_000));
  const fd = openForeignLog(path, "somebody");
  writeSync(fd, "the end");
  closeSync(fd);
  const tail = await foreignLogTail(path);
  expect([tail.length, tail.endsWith("xthe end")]).toEqual([4_096, true]);
});

test("a link in its place is not followed", async () => {
  const directory = scratch();
  const [path, elsewhere] = [join(directory, "log"), join(directory, "elsewhere")];
  symlinkSync(elsewhere, path);
  expect(() => openForeignLog(path, "somebody")).toThrow(
    expect.objectContaining({ code: "NETWORK_FAILED", details: expect.objectContaining({ reason: "ELOOP" }) }),
  );
  expect(existsSync(elsewhere)).toBe(false);
  writeFileSync(elsewhere, "secret");
  expect(await foreignLogTail(path)).toBe("");
});

test("a pipe in its place is not waited for", async () => {
  const path = join(scratch(), "log");
  await runProgram(["mkfifo", path]);
  expect(() => openForeignLog(path, "somebody")).toThrow(
    expect.objectContaining({ code: "NETWORK_FAILED", details: expect.objectContaining({ reason: "ENXIO" }) }),
  );
  expect(await foreignLogTail(path)).toBe("");
});
