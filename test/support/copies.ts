// What tests of snapshots, forks and checkpoints look at: things that live in a guest's memory, on its disk and in its
// processes, its clock, and the files of the copies.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import type { Vm } from "./smolvm.js";
import { type TestState, withDatabase } from "./state.js";
import { eventually } from "./wait.js";

/** How wrong a guest's clock may be, in milliseconds. */
const CLOCK_LIMIT_MS = 50;
/** Looks at a guest's clock: the quickest of them says most. */
const CLOCK_LOOKS = 8;

/**
 * Puts a mark where a copy has to find it: on the disk, in the page cache, in a file system in memory, and in the
 * variable of a process that counts.
 */
export async function furnish(vm: Vm, mark: string): Promise<void> {
  const loop =
    'n=0; while :; do n=$((n+1)); echo "$1 $$ $n" > /dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.2; done';
  const line = `echo ${mark} > /root/disk; sync; echo ${mark} > /root/cached; echo ${mark} > /dev/shm/memory;
    setsid sh -c '${loop}' counter ${mark} > /dev/null 2>&1 < /dev/null &`;
  await vm.run(line, { check: true, orphans: "keep" });
  await eventually(async () => (await counter(vm))?.mark);
}

/** What is found of the marks. */
export async function marks(vm: Vm): Promise<readonly string[]> {
  return (await vm.run("cat /root/disk /root/cached /dev/shm/memory")).output.split("\n");
}

/** The counting process, as it last told. */
export async function counter(vm: Vm) {
  const [mark, pid, count] = (await vm.run("cat /dev/shm/count 2>/dev/null || true")).output.split(" ");
  return count === undefined ? undefined : { mark, pid: Number(pid), count: Number(count) };
}

/** Waits until the counting process has counted on from what it had. */
export async function expectToCount(
  vm: Vm,
  from: { readonly mark?: string | undefined; readonly pid: number; readonly count: number },
) {
  const now = await eventually(async () => {
    const told = await counter(vm);
    return told !== undefined && told.count > from.count ? told : undefined;
  });
  expect(now).toMatchObject({ mark: from.mark, pid: from.pid });
}

/** The guest's clock and ours agree, however long it takes to ask. */
export async function expectRightClock(vm: Vm): Promise<void> {
  let [earliest, latest] = [-Infinity, Infinity];
  for (let look = 0; look < CLOCK_LOOKS; look++) {
    const before = Date.now();
    const guest = Number((await vm.exec(["date", "+%s%3N"])).output);
    earliest = Math.max(earliest, guest - Date.now());
    latest = Math.min(latest, guest - before);
  }
  // Its error is somewhere between the two.
  expect(earliest).toBeLessThanOrEqual(CLOCK_LIMIT_MS);
  expect(latest).toBeGreaterThanOrEqual(-CLOCK_LIMIT_MS);
}

/** Tells one boot of a kernel from every other. A copy has that of its original. */
export async function bootOf(vm: Vm): Promise<string> {
  return (await vm.exec(["cat", "/proc/sys/kernel/random/boot_id"])).output;
}

/** Ids of captures: those with a directory, and those on record. */
export function captures({ stateDir, databasePath }: Pick<TestState, "stateDir" | "databasePath">) {
  const directory = join(stateDir, "captures");
  const onDisk = existsSync(directory) ? readdirSync(directory).sort() : [];
  if (!existsSync(databasePath)) return { onDisk, onRecord: [] };
  const rows = withDatabase(databasePath, (db) => db.prepare("SELECT id FROM captures ORDER BY id").all());
  return { onDisk, onRecord: (rows as { id: string }[]).map(({ id }) => id) };
}

/** Fails at the end of a file that leaves files of captures. Call it after `testState()`. */
export function expectNoCapturesAtTheEnd(state: TestState): void {
  afterAll(() => expect(captures(state)).toEqual({ onDisk: [], onRecord: [] }));
}

/** What a port of this host serves, once something does. */
export function served(port: number): Promise<string> {
  return eventually(() =>
    fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(5_000) }).then(
      (response) => (response.ok ? response.text().catch(() => undefined) : undefined),
      () => undefined,
    ),
  );
}
