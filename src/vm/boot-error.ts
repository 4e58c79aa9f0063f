// What is said of a boot that went wrong: by whom it ended, and the last words of guest and VMM.

import type { StartedVmm, VmmEnd } from "../backends/backend.js";
import type { Deadline } from "../base/deadline.js";
import { sleep } from "../base/sleep.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { hasEnded } from "../host/end-process.js";
import { identifyProcess } from "../host/process-identity.js";
import { CONSOLE_LOG, LOG_TAIL_BYTES, MESSAGES_LOG, readLog } from "./console-log.js";
import type { VmSpec } from "./vm-spec.js";

/** How long a VMM whose channel has closed may take to end, in milliseconds. */
const END_LIMIT_MS = 2_000;
/** How long its log keeper may take to write what it said, in milliseconds. */
const LAST_WORDS_MS = 1_000;

/** A boot in progress. */
export interface Boot {
  readonly vmId: string;
  readonly spec: VmSpec;
  readonly runtimeDir: string;
  /** Of this attempt. */
  readonly deadline: Deadline;
}

/**
 * Turns what interrupted a boot into the error that its caller gets.
 *
 * @returns `BOOT_TIMEOUT` for a silent guest, `BOOT_FAILED` for a VMM that ended, else the error itself.
 */
export async function bootError(
  boot: Boot,
  processes: { readonly vmm: StartedVmm; readonly keeperPid: number },
  error: unknown,
): Promise<unknown> {
  if (boot.deadline.isAborted) return error;
  if (isSmolVMError(error, "TIMEOUT")) return silent(boot);
  const hasVmmEnded = isSmolVMError(error, "ABORTED") || isSmolVMError(error, "CHANNEL_CLOSED");
  if (!hasVmmEnded) return error;
  const end = await Promise.race([processes.vmm.ended, sleep(END_LIMIT_MS).then(() => undefined)]);
  const keeper = await identifyProcess(processes.keeperPid);
  if (keeper !== undefined) await hasEnded(keeper, LAST_WORDS_MS);
  return ended(boot, end, error);
}

async function silent({ vmId, spec, deadline }: Boot): Promise<SmolVMError> {
  const { limitMs } = deadline;
  return new SmolVMError("BOOT_TIMEOUT", `VM "${vmId}" gave no sign of life within ${Math.round(limitMs)} ms`, {
    details: { vmId, timeoutMs: limitMs, bootTimeoutMs: spec.bootTimeoutMs, ...(await lastWords(spec)) },
  });
}

async function ended({ vmId, spec }: Boot, end: VmmEnd | undefined, cause: unknown): Promise<SmolVMError> {
  const words = await lastWords(spec);
  const last = lastLine(words.vmmStderr) || lastLine(words.serialTail) || "it said nothing";
  return new SmolVMError("BOOT_FAILED", `VM "${vmId}" ended during boot: its VMM ${describe(end)}: ${last}`, {
    details: { vmId, ...end, ...words },
    cause,
  });
}

function describe(end: VmmEnd | undefined): string {
  if (end === undefined) return "closed its channel";
  return end.signal === null ? `exited with ${end.exitCode}` : `was killed by ${end.signal}`;
}

async function lastWords({ directory }: VmSpec) {
  return {
    serialTail: await readLog(directory, CONSOLE_LOG, LOG_TAIL_BYTES),
    vmmStderr: await readLog(directory, MESSAGES_LOG, LOG_TAIL_BYTES),
  };
}

function lastLine(text: string): string {
  return text.trim().split("\n").pop()?.trim() ?? "";
}
