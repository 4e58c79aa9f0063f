import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import { probeNames } from "./probe-names.js";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "smolvm-probe-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A netguard that is a line of shell. */
function probe(script: string, timeoutMs = 10_000): Promise<string | undefined> {
  const path = join(directory, "netguard");
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return probeNames(path, Deadline.after(timeoutMs));
}

test("is asked to try, and nothing else, as a user without rights", async () => {
  const argv = process.getuid?.() === 0 ? "-runas 65534:65534 -probe-names" : "-probe-names";
  expect(await probe(`[ "$*" = "${argv}" ] && [ "$PWD" = / ]`)).toBeUndefined();
});

test("says why it does not work", async () => {
  const reason = "netguard: EPERM: cannot make a user and network namespace";
  expect(await probe(`echo "${reason}" >&2; exit 3`)).toBe(reason);
  expect(await probe("exit 3")).toMatch(/exited with 3/);
});

test("an attempt that does not end is no answer", async () => {
  await expect(probe("exec sleep 60", 100)).rejects.toMatchObject({ code: "TIMEOUT" });
});

test("a netguard that is not there is no answer", async () => {
  await expect(probeNames(join(directory, "missing"), Deadline.after(10_000))).rejects.toMatchObject({
    code: "HOST_UNSUPPORTED",
  });
});
