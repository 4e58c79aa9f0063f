// Which programs and permissions an image build needs of this host, and which of them are missing.

import { readFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { SmolVMError } from "../errors/smolvm-error.js";
import { findProgram } from "../host/find-program.js";

/** Something that a build needs and this host lacks. */
export interface MissingBuildTool {
  /** E.g. `"mke2fs"`. */
  readonly name: string;
  /** How to get it, e.g. `"apt install e2fsprogs"`. */
  readonly remedy: string;
}

interface BuildTool {
  readonly program: string;
  /** Debian's and Ubuntu's package. */
  readonly package: string;
  /** Root does without it. */
  readonly isForOrdinaryUsers?: true;
}

const tools: readonly BuildTool[] = [
  { program: "mmdebstrap", package: "mmdebstrap" },
  { program: "mke2fs", package: "e2fsprogs" },
  { program: "tar", package: "tar" },
  { program: "zstd", package: "zstd" },
  { program: "xz", package: "xz-utils" },
  { program: "setpriv", package: "util-linux" },
  { program: "unshare", package: "util-linux" },
  { program: "newuidmap", package: "uidmap", isForOrdinaryUsers: true },
  { program: "fakeroot", package: "fakeroot", isForOrdinaryUsers: true },
];

/** True when this process may do what only root can. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Everything that is missing; empty on a host that can build images. */
export async function findMissingBuildTools(): Promise<readonly MissingBuildTool[]> {
  const missing: MissingBuildTool[] = [];
  for (const tool of tools) {
    if (tool.isForOrdinaryUsers && isRoot()) continue;
    if (findProgram(tool.program) !== undefined) continue;
    missing.push({ name: tool.program, remedy: `apt install ${tool.package}` });
  }
  if (!isRoot()) missing.push(...(await findMissingSubordinateIds()));
  return missing;
}

/**
 * @throws {HOST_UNSUPPORTED} naming all that is missing.
 */
export async function requireBuildTools(): Promise<void> {
  if (process.platform !== "linux") {
    throw new SmolVMError("HOST_UNSUPPORTED", `Cannot build images on "${process.platform}": it needs Linux`, {
      hint: "Build the image on a Linux machine, and give kernelPath and rootfsPath here.",
    });
  }
  const missing = await findMissingBuildTools();
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name).join(", ");
  throw new SmolVMError("HOST_UNSUPPORTED", `Cannot build images on this host: missing ${names}`, {
    details: { missing },
    hint: missing.map(({ remedy }) => remedy).join("; "),
  });
}

/** Ranges of ids that mmdebstrap maps into its user namespace, subuid(5). */
async function findMissingSubordinateIds(): Promise<readonly MissingBuildTool[]> {
  const { username, uid } = userInfo();
  const missing: MissingBuildTool[] = [];
  for (const [path, option] of [
    ["/etc/subuid", "--add-subuids"],
    ["/etc/subgid", "--add-subgids"],
  ] as const) {
    const text = await readFile(path, "utf8").catch(() => "");
    const hasRange = text.split("\n").some((line) => line.startsWith(`${username}:`) || line.startsWith(`${uid}:`));
    if (hasRange) continue;
    missing.push({
      name: `a range for user "${username}" in ${path}`,
      remedy: `usermod ${option} 100000-165535 ${username}`,
    });
  }
  return missing;
}
