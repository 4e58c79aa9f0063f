// Which directories of the host a guest sees, checked before anything happens.

import { constants } from "node:fs";
import { access, realpath, stat } from "node:fs/promises";
import { posix, resolve } from "node:path";
import { z } from "zod";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CheckedConfig } from "./vm-config.js";

/** A mount as a VM's record holds it. */
export const mountSchema = z.strictObject({
  /** Absolute and without links, so that nobody can turn the VM to another directory by making a link. */
  hostPath: z.string(),
  guestPath: z.string(),
  writable: z.boolean(),
});

/** See the schema. */
export type MountSpec = z.output<typeof mountSchema>;

/** Directories of a guest without which it does not work, as the agent refuses them. */
const TAKEN_GUEST_PATHS = ["/proc", "/sys", "/dev", "/run/smolvm", "/var/lib/smolvm"];
const GUEST_PATH_EXPECTED = `an absolute path without "//", "." and "..", and not ${TAKEN_GUEST_PATHS.join(", ")}`;

/**
 * Checks what a caller asked to mount; no side effect.
 *
 * @returns The mounts in the order in which they are made: one inside of another after it.
 * @throws {INVALID_CONFIG} naming the field, also when a directory of the host is not there or may not be used.
 */
export async function checkMounts(mounts: CheckedConfig["mounts"]): Promise<readonly MountSpec[]> {
  const checked = await Promise.all(
    mounts.map(async ({ hostPath, guestPath, writable = false }, index) => {
      if (!isGuestPath(guestPath)) {
        throw invalidConfig({ field: `mounts[${index}].guestPath`, value: guestPath, expected: GUEST_PATH_EXPECTED });
      }
      return { hostPath: await directoryOf(hostPath, writable, `mounts[${index}].hostPath`), guestPath, writable };
    }),
  );
  const taken = new Set<string>();
  for (const [index, { guestPath }] of checked.entries()) {
    if (taken.has(guestPath)) {
      const expected = "each guest path once";
      throw invalidConfig({ field: `mounts[${index}].guestPath`, value: guestPath, expected });
    }
    taken.add(guestPath);
  }
  return checked.sort((a, b) => depth(a.guestPath) - depth(b.guestPath));
}

/**
 * Looks whether what a VM mounts is still there, before anything is started.
 *
 * @throws {MOUNT_FAILED} naming the directory.
 */
export async function requireMounts(vmId: string, mounts: readonly MountSpec[]): Promise<void> {
  for (const { hostPath, guestPath } of mounts) {
    const problem = await problemWith(hostPath);
    if (problem === undefined) continue;
    throw mountFailed(vmId, { hostPath, guestPath }, problem);
  }
}

/** The error for one mount that does not work. */
export function mountFailed(
  vmId: string,
  { hostPath, guestPath }: Pick<MountSpec, "hostPath" | "guestPath">,
  reason: string,
): SmolVMError {
  return new SmolVMError("MOUNT_FAILED", `Cannot mount "${hostPath}" at "${guestPath}" in VM "${vmId}": ${reason}`, {
    details: { vmId, hostPath, guestPath, reason },
  });
}

function isGuestPath(path: string): boolean {
  const isPlain = path.startsWith("/") && path !== "/" && posix.normalize(path) === path && !path.endsWith("/");
  return isPlain && !TAKEN_GUEST_PATHS.some((taken) => path === taken || path.startsWith(`${taken}/`));
}

function depth(path: string): number {
  return path.split("/").length;
}

/** The real path of a directory that this user may use. */
async function directoryOf(path: string, writable: boolean, field: string): Promise<string> {
  const refuse = (expected: string, cause?: unknown) => invalidConfig({ field, value: path, expected }, cause);
  let real: string;
  try {
    real = await realpath(resolve(path));
    if (!(await stat(real)).isDirectory()) throw refuse("a directory of the host");
  } catch (error) {
    throw error instanceof SmolVMError ? error : refuse("a directory of the host that exists", error);
  }
  const needed = constants.R_OK | constants.X_OK | (writable ? constants.W_OK : 0);
  try {
    await access(real, needed);
  } catch (error) {
    throw refuse(`a directory of the host that may be read${writable ? " and written to" : ""}`, error);
  }
  return real;
}

/** Why a directory of a VM's record cannot be mounted; `undefined`: it can. */
async function problemWith(hostPath: string): Promise<string | undefined> {
  try {
    if ((await realpath(hostPath)) !== hostPath)
      return "a link has taken the place of the directory, or of one above it";
    if (!(await stat(hostPath)).isDirectory()) return "it is no directory any more";
    await access(hostPath, constants.R_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code === "ENOENT" ? "the directory is gone" : `the directory cannot be used (${code})`;
  }
}
