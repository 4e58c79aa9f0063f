// iperf3 of this machine with its libraries, for guests that have none.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

/** @returns A directory with `iperf3`, `ld.so` and libraries; the caller removes it. `undefined` without iperf3. */
export function bundleIperf() {
  let program;
  try {
    program = execFileSync("sh", ["-c", "command -v iperf3"], { encoding: "utf8" }).trim();
  } catch {
    return undefined;
  }
  const directory = mkdtempSync(join(tmpdir(), "smolvm-iperf3-"));
  copyFileSync(program, join(directory, "iperf3"));
  const lines = execFileSync("ldd", [program], { encoding: "utf8" }).split("\n");
  for (const path of lines.flatMap((line) => line.match(/\/\S+/)?.[0] ?? [])) {
    copyFileSync(path, join(directory, basename(path).startsWith("ld-") ? "ld.so" : basename(path)));
  }
  return directory;
}
