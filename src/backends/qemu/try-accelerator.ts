// Whether an accelerator works, found out by booting the kernel with it for a moment. That `/dev/kvm` opens, or even
// creates a VM, proves nothing: on some nested hosts the guest dies with its first instructions.

import type { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { findProgram } from "../../host/find-program.js";
import { runProgram } from "../../host/process.js";
import type { Accelerator } from "../backend.js";
import { bareArgv } from "./argv.js";
import { probeCommandLine } from "./kernel-command-line.js";

/** What the agent writes to the console when it was started with `smolvm.probe=1`. */
const PROBE_MARK = "SMOLVM-PROBE-OK";
/** Longest trial, in milliseconds. A working accelerator needs a fraction of it. */
const TRIAL_LIMIT_MS = 5_000;
const TRIAL_MEM_MIB = 256;
const ANY_EXIT_CODE = Array.from({ length: 256 }, (_, code) => code);

/** A boot to try. */
interface Trial {
  readonly accelerator: Accelerator;
  readonly kernelPath: string;
  readonly initrdPath: string;
}

/** @returns `undefined` when the guest came up, else why it did not. */
export async function tryQemuAccelerator(
  program: string,
  trial: Trial,
  deadline: Deadline,
): Promise<string | undefined> {
  const bound = deadline.atMost(TRIAL_LIMIT_MS);
  const died = new AbortController();
  const kernelArguments = probeCommandLine(trial.accelerator);
  const argv = bareArgv(program, { ...trial, vcpuCount: 1, memSizeMib: TRIAL_MEM_MIB, kernelArguments });
  let lastMessage = "";
  try {
    const { stdout, stderr } = await runProgram([...selfEnding(), ...argv], {
      timeoutMs: bound.remainingMs,
      signal: bound.signal === undefined ? died.signal : AbortSignal.any([bound.signal, died.signal]),
      okExitCodes: ANY_EXIT_CODE,
      onStderrLine: (line) => {
        if (!line.includes("terminating on signal")) lastMessage = line; // That would be our own doing.
        // QEMU only stops the guest then, and would wait for ever.
        if (line.includes("KVM internal error")) died.abort(line);
      },
    });
    if (stdout.includes(PROBE_MARK)) return undefined;
    return stderr.trim().split("\n")[0] || "the guest ended without a sign of life";
  } catch (error) {
    if (deadline.isAborted || !(error instanceof SmolVMError)) throw error;
    if (error.code === "ABORTED") return `the guest died: ${String(died.signal.reason)}`;
    if (error.code === "TIMEOUT") return `no sign of life from the guest for ${bound.limitMs} ms ${lastMessage}`.trim();
    return error.message;
  }
}

/** A prefix that ends the trial even if this program is killed during it. */
function selfEnding(): string[] {
  const timeout = findProgram("timeout"); // GNU coreutils; macOS has none.
  return timeout === undefined ? [] : [timeout, "--kill-after=1", String(TRIAL_LIMIT_MS / 1000 + 1)];
}
