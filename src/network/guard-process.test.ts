import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { runProgram } from "../host/process.js";
import type { ReadyChild } from "../host/ready-child.js";
import { guardLog, spawnGuard } from "./guard-process.js";
import type { EnforcedPolicy } from "./network-plan.js";

const OPEN: EnforcedPolicy = { mode: "open", names: [], networks: [], resolvers: [] };

let own: string;
let directory: string;
beforeEach(() => {
  own = mkdtempSync(join(tmpdir(), "smolvm-guard-"));
  directory = join(own, "net");
  mkdirSync(directory);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(own, { recursive: true });
});

/** A guard that is a line of shell. */
function start(script: string, policy = OPEN): Promise<ReadyChild> {
  return spawnGuard({ argv: ["sh", "-c", script], directory, policy, refusalsPath: join(own, "refusals.log") });
}

test("a guard gets its policy whole, a file for refusals, and a log; and says when it is ready", async () => {
  // More than a socket holds at once.
  const names = Array.from({ length: 20_000 }, (_, i) => ({ name: `host-${i}.example.com`, port: 443 }));
  const policy: EnforcedPolicy = { ...OPEN, mode: "allow", names };
  writeFileSync(join(own, "refusals.log"), "before\n");
  const guard = await start("sleep 0.1; cat <&3 >policy; echo refused >&4; echo said >&2; echo ready >&5", policy);
  expect(await guard.settled).toBeUndefined();
  guard.forget();
  expect(JSON.parse(readFileSync(join(directory, "policy"), "utf8"))).toEqual(policy);
  expect(readFileSync(join(own, "refusals.log"), "utf8")).toBe("before\nrefused\n");
  expect(await guardLog(directory)).toBe("said\n");
});

test.each([
  ["exit 3", { exitCode: 3, signal: null }],
  ["kill -KILL $$", { exitCode: null, signal: "SIGKILL" }],
  ["echo nonsense >&5; exit 0", { exitCode: 0, signal: null }],
  ["exec 3<&- 5>&-; sleep 0.1; exit 4", { exitCode: 4, signal: null }],
])("a guard that ends instead: %s", async (script, end) => {
  const guard = await start(script);
  expect(await guard.settled).toEqual(end);
  expect(guard.hasEnded()).toBe(true);
});

test("a guard is told nothing of this program's environment", async () => {
  vi.stubEnv("SMOLVM_TEST_SECRET", "s3cr3t");
  const guard = await start("env >environment; echo ready >&5");
  await guard.settled;
  expect(readFileSync(join(directory, "environment"), "utf8")).not.toContain("s3cr3t");
});

test("one that is not installed", async () => {
  const options = { directory, policy: OPEN, refusalsPath: join(own, "refusals.log") };
  await expect(spawnGuard({ ...options, argv: [join(own, "missing")] })).rejects.toMatchObject({
    code: "HOST_UNSUPPORTED",
  });
});

test("what a guard has put in the place of its log is neither followed nor waited for", async () => {
  const log = join(directory, "network.log");
  const elsewhere = join(own, "elsewhere");
  symlinkSync(elsewhere, log);
  await expect(start("true")).rejects.toMatchObject({ code: "NETWORK_FAILED", details: { reason: "ELOOP" } });
  expect(existsSync(elsewhere)).toBe(false);
  writeFileSync(elsewhere, "secret");
  expect(await guardLog(directory)).toBe("");
  rmSync(log);
  await runProgram(["mkfifo", log]);
  await expect(start("true")).rejects.toMatchObject({ code: "NETWORK_FAILED", details: { reason: "ENXIO" } });
  expect(await guardLog(directory)).toBe("");
});

test("of a long log the end is kept, and of none nothing", async () => {
  expect(await guardLog(directory)).toBe("");
  writeFileSync(join(directory, "network.log"), `${"x".repeat(10_000)}the end`);
  const log = await guardLog(directory);
  expect(log).toHaveLength(4_096);
  expect(log.endsWith("xthe end")).toBe(true);
});
