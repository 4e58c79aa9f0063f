// Whether /dev/kvm can be opened, and what to do where it cannot. Only looks: that it opens does not yet mean that a
// guest runs with it.

import { existsSync, readFileSync, statSync } from "node:fs";
import { open } from "node:fs/promises";

const KVM_DEVICE = "/dev/kvm";

/** What a look at the device gave. */
export type KvmDevice =
  | { readonly opens: true }
  | {
      readonly opens: false;
      /** What is the matter, e.g. `/dev/kvm does not open (EACCES)`. */
      readonly found: string;
      readonly remedy: string;
    };

/** Opens the device for reading and writing, as a VMM does, and closes it again. */
export async function lookAtKvm(device = KVM_DEVICE): Promise<KvmDevice> {
  try {
    await (await open(device, "r+")).close();
    return { opens: true };
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    const found = reason === "ENOENT" ? `${device} does not exist` : `${device} does not open (${reason})`;
    return { opens: false, found, remedy: kvmRemedy({ reason, isContainer: isContainer(), ...access(device) }) };
  }
}

/** Why a device does not open. */
export interface KvmRefusal {
  /** Error code of open(2). */
  readonly reason: string;
  readonly isContainer: boolean;
  /** Name of the group that may read and write the device; `undefined` when its group may not, or is root's. */
  readonly group?: string | undefined;
  /** Whether this user is in the group already, though this process is not. */
  readonly isMember?: boolean | undefined;
}

/** What helps against it, for a person. */
export function kvmRemedy({ reason, isContainer, group, isMember = false }: KvmRefusal): string {
  const isDenied = reason === "EACCES" || reason === "EPERM";
  if (isContainer && (isDenied || reason === "ENOENT")) {
    const alsoGroup = isDenied ? ' and, for an ordinary user, `--group-add "$(stat -c %g /dev/kvm)"` of the host' : "";
    return `Give the device to the container: \`--device /dev/kvm\`${alsoGroup}.`;
  }
  if (reason === "ENOENT") {
    return "Switch virtualization on in the firmware, or nested virtualization in the hypervisor, and load kvm.";
  }
  if (!isDenied) return "Load the KVM module for this processor (`sudo modprobe kvm_intel` or `kvm_amd`).";
  const forNow = 'until the next boot: `sudo setfacl -m "u:$USER:rw" /dev/kvm`';
  if (group === undefined) return `Get access to the device ${forNow}. A udev rule makes it last.`;
  if (isMember) return `You are in group "${group}", but this session is from before that: log in again.`;
  return `Add yourself to the ${group} group (\`sudo usermod -aG ${group} "$USER"\`) and log in again; or, ${forNow}.`;
}

/** Files that container runtimes leave in their containers: Docker, Podman. */
const CONTAINER_MARKS = ["/.dockerenv", "/run/.containerenv"];
/** What the group may do when it may read and write. */
const GROUP_RW = 0o060;

function isContainer(): boolean {
  return CONTAINER_MARKS.some((path) => existsSync(path));
}

function access(device: string): Pick<KvmRefusal, "group" | "isMember"> {
  try {
    const { gid, mode } = statSync(device);
    if (gid === 0 || (mode & GROUP_RW) !== GROUP_RW) return {};
    return groupEntry(readFileSync("/etc/group", "utf8"), gid);
  } catch {
    return {};
  }
}

/** Name and membership out of group(5). */
function groupEntry(groups: string, gid: number): Pick<KvmRefusal, "group" | "isMember"> {
  const fields = groups
    .split("\n")
    .map((line) => line.split(":"))
    .find((entry) => entry[2] === String(gid));
  if (fields?.[0] === undefined) return {};
  return { group: fields[0], isMember: (fields[3] ?? "").split(",").includes(userName()) };
}

/** By passwd(5); empty for a user who is not in it. */
function userName(): string {
  const uid = String(process.getuid?.());
  const entry = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .find((fields) => fields[2] === uid);
  return entry?.[0] ?? "";
}
