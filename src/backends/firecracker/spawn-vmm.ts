// Starts a Firecracker process, in a jail or without, with the machine's files at their names.

import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../../base/deadline.js";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { FoundFirecracker } from "../../host/firecracker/find-firecracker.js";
import { signalGroup, spawnProgram } from "../../host/process.js";
import type { Confinement, MachineSpec, VmmEnd, VmmOutputs } from "../backend.js";
import { confinedArgv } from "../qemu/confine.js";
import { cgroupOptions } from "./cgroup.js";
import { makeJail, sealJail } from "./jail.js";
import type { MachineFile } from "./machine-files.js";
import { apiSocket, instanceId, vmmDirectory } from "./places.js";
import { removeVmmDirectory } from "./release.js";

/** A process to start. */
export interface VmmRequest {
  readonly machine: Pick<MachineSpec, "vcpuCount" | "memSizeMib" | "network" | "runtimeDir">;
  readonly files: readonly MachineFile[];
  readonly found: FoundFirecracker;
  readonly confinement: Confinement;
  readonly jailsDir: string;
  /** Goes before the program, where it has no jail. */
  readonly prefix?: readonly string[] | undefined;
}

/** A Firecracker that was started; it may not listen yet. */
export interface VmmProcess {
  readonly pid: number;
  readonly ended: Promise<VmmEnd>;
  readonly hasEnded: () => boolean;
  /** It has opened all that it is to open: takes away what only the start needed, and what it could still change. */
  settle(deadline: Deadline): Promise<void>;
  /** Until then it holds this program, which waits for its end where a start fails. */
  letGo(): void;
}

/** @throws {STORAGE_FAILED} {HOST_UNSUPPORTED} {HOST_COMMAND_FAILED} {TIMEOUT} {ABORTED} */
export async function spawnVmm(request: VmmRequest, outputs: VmmOutputs, deadline: Deadline): Promise<VmmProcess> {
  const isJailed = request.confinement.kind === "jailer";
  const { argv, cwd, settle } = isJailed ? await jailed(request, deadline) : await plain(request);
  const child = await spawnProgram(argv, {
    stdio: ["ignore", outputs.console, outputs.messages],
    detached: true,
    cwd,
    env: {}, // Nothing of the caller's environment is Firecracker's business.
  });
  const ended = new Promise<VmmEnd>((resolve) => {
    child.once("exit", (exitCode, signal) => resolve({ exitCode, signal }));
  });
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  return { pid: child.pid as number, ended, hasEnded, settle, letGo: () => child.unref() };
}

/** Ends a process whose start has failed, and removes what was made for it. */
export async function undoSpawn(runtimeDir: string, vmm: VmmProcess | undefined, deadline: Deadline): Promise<void> {
  if (vmm !== undefined && !vmm.hasEnded()) signalGroup(vmm.pid, "SIGKILL");
  await vmm?.ended;
  await removeVmmDirectory(runtimeDir, deadline);
}

interface Launch {
  readonly argv: readonly string[];
  readonly cwd: string;
  settle(deadline: Deadline): Promise<void>;
}

async function plain({ machine, files, found, prefix = [] }: VmmRequest): Promise<Launch> {
  const { runtimeDir, network } = machine;
  const directory = vmmDirectory(runtimeDir);
  try {
    await mkdir(directory, { mode: 0o700 });
    for (const { name, path } of files) await symlink(path, join(directory, name));
  } catch (error) {
    throw fileError("Making a VMM's directory", directory, error);
  }
  const own = [found.firecracker.path, ...ownArguments(runtimeDir), "--id", instanceId(runtimeDir)];
  const isAlone = network !== undefined && network.link === undefined;
  const argv = isAlone ? [...ALONE, ...prefix, ...own] : confinedArgv([...prefix, ...own]);
  return { argv, cwd: directory, settle: async () => {} };
}

/**
 * With nothing behind its network device a VMM makes the other end itself: where nobody else is, and where it has rights
 * for that and none outside (user_namespaces(7)).
 */
const ALONE = ["unshare", "--user", "--map-root-user", "--net", "--"];

async function jailed(request: VmmRequest, deadline: Deadline): Promise<Launch> {
  const { machine, found, files, jailsDir } = request;
  const { runtimeDir } = machine;
  const program = found.firecracker.path;
  if (found.jailer === undefined) throw new SmolVMError("INTERNAL", "A VMM cannot be jailed without a jailer");
  const { base, root, uid } = await makeJail({ runtimeDir, jailsDir, program, files }, deadline);
  const argv = [
    found.jailer.path,
    ...["--id", instanceId(runtimeDir), "--exec-file", program],
    ...["--uid", String(uid), "--gid", String(uid), "--chroot-base-dir", base],
    ...cgroupOptions(machine),
    ...["--", ...ownArguments(runtimeDir)],
  ];
  return { argv, cwd: "/", settle: (bound) => sealJail(root, bound) };
}

/**
 * Its log goes to where the guest's console goes, for both are standard output. It is kept to what the guest's machine
 * has to say: refusals of requests are answers to us already.
 */
function ownArguments(runtimeDir: string): readonly string[] {
  return ["--api-sock", apiSocket(runtimeDir), "--level", "Error", "--module", "vmm"];
}
