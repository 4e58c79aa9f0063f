// Is the second VMM there? It is optional and comes from nobody's package archive.

import { findProgram } from "../find-program.js";
import { runProgram } from "../process.js";
import type { CheckContext, CheckResult, HostCheck } from "./check.js";

/** The firecracker program. */
export const firecrackerCheck: HostCheck = {
  id: "firecracker",
  title: "Firecracker (optional)",
  requiredFor: "firecracker",
  run: checkFirecracker,
};

async function checkFirecracker({ deadline }: CheckContext): Promise<CheckResult> {
  if (findProgram("firecracker") === undefined) {
    return {
      status: "warn",
      found: "firecracker is not on PATH; the qemu backend is used",
      remedy: "Put a release's `firecracker` program on PATH to use that backend.",
    };
  }
  const { stdout } = await runProgram(["firecracker", "--version"], {
    timeoutMs: deadline.remainingMs,
    signal: deadline.signal,
  });
  return { status: "ok", found: stdout.split("\n", 1)[0] ?? "" };
}
