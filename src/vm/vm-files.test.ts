import { existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { scratchDirectory } from "../storage/testing/scratch-store.js";
import { CONSOLE_LOG, hasOrderlyEnd, readLog } from "./console-log.js";
import { readEnvironment, writeEnvironment } from "./environment-file.js";
import { fakeContext, specOf } from "./testing/fake-context.js";
import { decodeSpec, encodeSpec } from "./vm-spec.js";

const isStorageError = expect.objectContaining({ code: "STORAGE_FAILED" });

describe("the record of a VM", () => {
  test("comes back as it was", () => {
    const ctx = fakeContext();
    const ssh = { hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 22 };
    for (const changes of [
      {},
      { image: null, ssh, networkMode: "user" as const, growRoot: true, retainDiskOnDelete: true },
      { disk: { mode: "shared" as const, path: "/disk", format: "qcow2" as const } },
      { networkMode: "tap" as const, egress: { allow: ["a.example"] }, rateLimitMbps: 20 },
    ]) {
      const spec = specOf(ctx, "a1", changes);
      expect(decodeSpec("a1", encodeSpec(spec))).toEqual(spec);
    }
  });

  test("has no place for an environment", () => {
    const spec = { ...specOf(fakeContext(), "a1"), envVars: { A: "s3cr3t" } };
    expect(encodeSpec(spec)).not.toContain("s3cr3t");
    expect(decodeSpec("a1", JSON.stringify(spec))).not.toHaveProperty("envVars");
  });

  test.each([
    ["no JSON", "{"],
    ["nothing", ""],
    ["null", "null"],
    ["a record that lacks something", "{}"],
  ])("%s is refused by code", (_what, text) => {
    expect(() => decodeSpec("a1", text)).toThrow(
      expect.objectContaining({ code: "STORAGE_FAILED", details: { vmId: "a1" } }),
    );
  });
});

describe("the environment's file", () => {
  test("is its owner's alone and comes back as it was", async () => {
    const directory = scratchDirectory();
    const env = { A: "", B: 'x="y"\n', ü: "🐧" };
    const before = process.umask(0);
    await writeEnvironment(directory, env).finally(() => process.umask(before));
    expect(statSync(join(directory, "environment.json")).mode & 0o777).toBe(0o600);
    expect(await readEnvironment(directory)).toEqual(env);
  });

  test("replaces nothing and follows no link", async () => {
    const directory = scratchDirectory();
    const target = join(scratchDirectory(), "victim");
    symlinkSync(target, join(directory, "environment.json"));
    await expect(writeEnvironment(directory, { A: "1" })).rejects.toEqual(isStorageError);
    expect(existsSync(target)).toBe(false);
  });

  test("that is not there, or broken, is an error of ours", async () => {
    const directory = scratchDirectory();
    await expect(readEnvironment(directory)).rejects.toMatchObject({
      code: "STORAGE_FAILED",
      details: { path: join(directory, "environment.json"), reason: "ENOENT" },
    });
    writeFileSync(join(directory, "environment.json"), "{");
    await expect(readEnvironment(directory)).rejects.toEqual(isStorageError);
  });
});

describe("a log", () => {
  function plant(current: string | undefined, older?: string): string {
    const directory = scratchDirectory();
    if (current !== undefined) writeFileSync(join(directory, "console.log"), current);
    if (older !== undefined) writeFileSync(join(directory, "console.log.1"), older);
    return directory;
  }

  test.each([
    ["nothing there", undefined, undefined, 10, ""],
    ["an empty one", "", undefined, 10, ""],
    ["less than the limit", "abc", undefined, 10, "abc"],
    ["exactly the limit", "abcdefghij", "older", 10, "abcdefghij"],
    ["more than the limit", "abcdefghijk", "older", 10, "bcdefghijk"],
    ["some of the older one", "abc", "0123456789", 10, "3456789abc"],
    ["all of both", "abc", "012", 10, "012abc"],
    ["only an older one", undefined, "0123456789x", 10, "123456789x"],
    ["nothing asked for", "abc", "012", 0, ""],
  ])("%s", async (_what, current, older, limitBytes, expected) => {
    expect(await readLog(plant(current, older), CONSOLE_LOG, limitBytes)).toBe(expected);
  });

  const BOOT = "[    0.212758] PCI: Fatal: No config space access function found\r\nsmolvm-agent: boot\r\n";
  const END = "smolvm-agent: power off\r\n[    2.850810] reboot: Restarting system\r\n";
  const CRASH = "[    0.554896] Kernel panic - not syncing: Fatal exception in interrupt\r\n";

  test.each([
    ["powered off", `${BOOT}${END}`, true],
    ["powered off with a lot of talk before", `${BOOT}${"talk\r\n".repeat(5_000)}${END}`, true],
    ["crashed", `${BOOT}${CRASH}`, false],
    ["killed", BOOT, false],
    ["booted again and crashed", `${BOOT}${END}${BOOT}${CRASH}`, false],
    ["booted again and killed", `${BOOT}${END}${BOOT}`, false],
    ["crashed, booted again and powered off", `${BOOT}${CRASH}${BOOT}${END}`, true],
    ["restarted by a fatal boot", `${BOOT}smolvm-agent: fatal: no root\r\n[ 2.8] reboot: Restarting system\r\n`, false],
    ["never said anything", "", false],
  ])("of a guest that %s", async (_what, log, isOrderly) => {
    expect(await hasOrderlyEnd(plant(log))).toBe(isOrderly);
  });

  test("across a rotation", async () => {
    expect(await hasOrderlyEnd(plant(END.slice(10), `${BOOT}${END.slice(0, 10)}`))).toBe(true);
    expect(await hasOrderlyEnd(plant(CRASH, `${BOOT}${END}${BOOT}`))).toBe(false);
  });

  test("is judged by what the agent really says", () => {
    const agent = (path: string) => readFileSync(new URL(`../../agent/internal/${path}`, import.meta.url), "utf8");
    expect(agent("boot/console.go")).toContain('writeConsole("smolvm-agent: " + text + "\\n")');
    expect(agent("boot/boot.go")).toContain('Log("boot")');
    expect(agent("guest/shutdown.go")).toContain('Log("power off")');
  });
});
