// The jail of a VMM: a root directory of its own with the machine's files in it. Files are mounted there, not linked: a
// link would be seen in the file's times, by which others know it, and ends where the file system does. The mounts are
// only needed until the VMM has its own, which go with it (mount_namespaces(7)).

import { existsSync, readFileSync } from "node:fs";
import { chmod, chown, mkdir, realpath, rm, stat, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Deadline } from "../../base/deadline.js";
import { settleAll } from "../../base/settle-all.js";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../../host/process.js";
import { removeCgroup } from "./cgroup.js";
import { copyDisk, makeFile } from "./disk-copy.js";
import { jailUser } from "./jail-user.js";
import type { MachineFile } from "./machine-files.js";
import { instanceId, jailRootOf, vmmDirectory } from "./places.js";

const FSTAB = "fstab";

/** What a jail is made for. */
export interface JailRequest {
  readonly runtimeDir: string;
  readonly jailsDir: string;
  /** Firecracker's. */
  readonly program: string;
  readonly files: readonly MachineFile[];
}

/** A jail with its files. */
export interface Jail {
  /** The jailer's `--chroot-base-dir`. */
  readonly base: string;
  readonly root: string;
  readonly uid: number;
}

/** @throws {STORAGE_FAILED} {HOST_COMMAND_FAILED} {TIMEOUT} {ABORTED} What was made is found by {@link removeJail}. */
export async function makeJail(request: JailRequest, deadline: Deadline): Promise<Jail> {
  const { runtimeDir, jailsDir, files } = request;
  const id = instanceId(runtimeDir);
  const base = join(jailsDir, id);
  const jail = { base, root: "", uid: jailUser(runtimeDir) };
  try {
    // The jailer names a directory for the program's file.
    jail.root = join(base, basename(await realpath(request.program)), id, "root");
    await symlink(jail.root, vmmDirectory(runtimeDir)); // First: by it the rest is found.
    await mkdir(jail.root, { recursive: true, mode: 0o700 });
    await leadBackToRoot(jail.root, runtimeDir);
    const mounts = await settleAll(files.map((file) => putFile(jail, file, deadline)));
    const lines = [
      // Private, so that it can be taken away again while the VMM has its copy.
      mountLine(jail.root, jail.root, "bind,private"),
      ...mounts.flatMap((entry) => (entry === undefined ? [] : [mountLine(entry.path, entry.at, "bind")])),
    ];
    await writeFile(join(base, FSTAB), `${lines.join("\n")}\n`, { mode: 0o600 });
  } catch (error) {
    throw error instanceof SmolVMError ? error : fileError("Making a jail", base, error);
  }
  await run(["mount", "--all", "--fstab", join(base, FSTAB)], deadline);
  return jail;
}

/**
 * Takes the host's mounts away, for the VMM has its own now, and the directory from its user: names in it are followed
 * by this program, so they must not be changed by a VMM that a guest has taken over.
 */
export async function sealJail(root: string, deadline: Deadline): Promise<void> {
  await unmount(root, deadline);
  try {
    await chown(root, 0, 0);
    await chmod(root, 0o755);
  } catch (error) {
    throw fileError("Closing a jail", root, error);
  }
}

async function unmount(root: string, deadline: Deadline): Promise<void> {
  if (isMounted(root)) await run(["umount", "--recursive", root], deadline);
}

/** Removes the jail of a VMM that has ended, or was never started, and its cgroup. Idempotent. @throws {STORAGE_FAILED} */
export async function removeJail(runtimeDir: string, deadline: Deadline): Promise<void> {
  const root = jailRootOf(runtimeDir);
  const id = instanceId(runtimeDir);
  if (root === undefined) return;
  const base = dirname(dirname(dirname(root)));
  if (basename(base) !== id || basename(root) !== "root") {
    throw new SmolVMError("STORAGE_FAILED", `Cannot remove "${root}": it is no jail of "${runtimeDir}"`, {
      details: { path: root },
    });
  }
  try {
    await unmount(root, deadline);
    await rm(base, { recursive: true, force: true });
    await removeCgroup(id);
    await rm(vmmDirectory(runtimeDir), { force: true });
  } catch (error) {
    throw error instanceof SmolVMError ? error : fileError("Removing a jail", base, error);
  }
}

/** The name of the API's socket holds the runtime directory, by which a stray VMM is found; in the jail it leads here. */
async function leadBackToRoot(root: string, runtimeDir: string): Promise<void> {
  await mkdir(join(root, runtimeDir), { recursive: true });
  await symlink("/", join(root, vmmDirectory(runtimeDir)));
}

/** @returns What has to be mounted, and where; nothing for a file that is copied. */
async function putFile(
  { root, uid }: Jail,
  { name, path, isWritten }: MachineFile,
  deadline: Deadline,
): Promise<{ readonly path: string; readonly at: string } | undefined> {
  const at = join(root, name);
  if (!isWritten && !(await isReadableByAll(path))) {
    // It is not ours to show: others may have it too.
    await copyDisk({ from: path, to: at }, deadline);
    await chown(at, uid, uid);
    return undefined;
  }
  if (isWritten) await chown(path, uid, uid);
  await makeFile(at);
  return { path: await realpath(path), at };
}

async function isReadableByAll(path: string): Promise<boolean> {
  try {
    return ((await stat(path)).mode & 0o004) !== 0;
  } catch (error) {
    throw fileError("Putting a file into a jail", path, error);
  }
}

/** A line of fstab(5). */
export function mountLine(source: string, target: string, options: string): string {
  const escaped = (path: string) =>
    path.replaceAll(/[\s\\#]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return `${escaped(source)} ${escaped(target)} none ${options} 0 0`;
}

function isMounted(root: string): boolean {
  if (!existsSync(root)) return false;
  const point = root.replaceAll(/[\s\\]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return readFileSync("/proc/self/mountinfo", "utf8").includes(` ${point} `);
}

async function run(argv: readonly string[], deadline: Deadline): Promise<void> {
  await runProgram(argv, { timeoutMs: deadline.remainingMs, signal: deadline.signal });
}
