// Whether KVM works with Firecracker, found out by booting the kernel with it for a moment. That `/dev/kvm` opens, or
// even creates a VM, proves nothing: on some nested hosts the guest dies with its first instructions.

import { type FileHandle, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Deadline } from "../../base/deadline.js";
import { pollUntil } from "../../base/sleep.js";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../../errors/wait-errors.js";
import { findProgram } from "../../host/find-program.js";
import type { FoundFirecracker } from "../../host/firecracker/find-firecracker.js";
import { lookAtKvm } from "../../host/kvm-device.js";
import { bareRequests } from "./configuration.js";
import { probeCommandLine } from "./kernel-command-line.js";
import { bootFilesOf } from "./machine-files.js";
import type { Platform } from "./platform.js";
import { undoSpawn, type VmmProcess } from "./spawn-vmm.js";
import { runVmm } from "./start-machine.js";

/** What the agent writes to the console when it was started with `smolvm.probe=1`. */
const PROBE_MARK = "SMOLVM-PROBE-OK";
/** Longest trial, in milliseconds. Where KVM works it takes a fraction of it. */
const TRIAL_LIMIT_MS = 5_000;
const TRIAL_MEM_MIB = 256;
/** How long its end may take, in milliseconds. */
const UNDO_LIMIT_MS = 10_000;
/** Pause between two looks at the console, in milliseconds. */
const LOOK_PAUSE_MS = 20;

/** A boot to try. */
export interface Trial {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly found: FoundFirecracker;
  readonly platform: Platform;
}

/** @returns `undefined` when the guest came up, else why it did not. @throws {ABORTED} {STORAGE_FAILED} */
export async function tryKvm(trial: Trial, deadline: Deadline): Promise<string | undefined> {
  throwIfAborted("Trial of KVM", deadline.signal);
  const device = await lookAtKvm();
  if (!device.opens) return device.found;
  const directory = await makeDirectory();
  try {
    return await tryIn(directory, trial, deadline.atMost(TRIAL_LIMIT_MS));
  } finally {
    await rm(directory, { recursive: true, force: true }).catch(() => {});
  }
}

async function tryIn(directory: string, trial: Trial, bound: Deadline): Promise<string | undefined> {
  const outputs = [join(directory, "console"), join(directory, "messages")] as const;
  const files: FileHandle[] = [];
  let vmm: VmmProcess | undefined;
  try {
    for (const path of outputs) files.push(await open(path, "wx", 0o600));
    const [console, messages] = files as [FileHandle, FileHandle];
    vmm = await boot(directory, trial, { console: console.fd, messages: messages.fd }, bound);
    return await outcome(vmm, outputs, bound);
  } catch (error) {
    if (bound.isAborted || !(error instanceof SmolVMError)) throw error;
    return error.code === "TIMEOUT" ? silence(bound) : error.message;
  } finally {
    await undoSpawn(directory, vmm, Deadline.after(UNDO_LIMIT_MS));
    for (const file of files) await file.close();
  }
}

function boot(
  runtimeDir: string,
  { kernelPath, initrdPath, found, platform }: Trial,
  outputs: { readonly console: number; readonly messages: number },
  bound: Deadline,
): Promise<VmmProcess> {
  const machine = { runtimeDir, vcpuCount: 1, memSizeMib: TRIAL_MEM_MIB, network: undefined };
  const confinement = { kind: "seccomp" as const, uid: process.getuid?.() ?? 0 };
  const files = bootFilesOf({ kernelPath, initrdPath });
  const request = { machine, files, found, confinement, jailsDir: "", prefix: selfEnding() };
  return runVmm(request, bareRequests(TRIAL_MEM_MIB, probeCommandLine(platform)), outputs, bound);
}

async function outcome(
  vmm: VmmProcess,
  [consolePath, messagesPath]: readonly [string, string],
  bound: Deadline,
): Promise<string | undefined> {
  const look = async () => {
    const hasEnded = vmm.hasEnded(); // Asked first: what it said before is then in the file.
    if ((await readFile(consolePath, "latin1")).includes(PROBE_MARK)) return { works: true };
    return hasEnded ? { works: false } : undefined;
  };
  const seen = await pollUntil(look, bound, LOOK_PAUSE_MS);
  if (seen?.works) return undefined;
  if (bound.isAborted) throw waitError("Trial of KVM", bound);
  if (seen === undefined) return silence(bound);
  // Firecracker's log is in the console; what it says at its end is less.
  const last = lastLine(await readFile(consolePath, "latin1")) || lastLine(await readFile(messagesPath, "utf8"));
  return `the guest ended without a sign of life${last === "" ? "" : `: ${last}`}`;
}

function silence(bound: Deadline): string {
  return `the guest did not answer within ${Math.round(bound.limitMs)} ms`;
}

function lastLine(text: string): string {
  return text.trim().split("\n").pop()?.trim() ?? "";
}

/** A prefix that ends the trial even if this program is killed during it. */
function selfEnding(): readonly string[] {
  const timeout = findProgram("timeout"); // GNU coreutils.
  return timeout === undefined ? [] : [timeout, "--kill-after=1", String(TRIAL_LIMIT_MS / 1000 + 1)];
}

async function makeDirectory(): Promise<string> {
  const prefix = join(tmpdir(), "smolvm-fc-");
  try {
    return await mkdtemp(prefix);
  } catch (error) {
    throw fileError("Making a directory for a trial of KVM", prefix, error);
  }
}
