// May this user make user and network namespaces? passt sandboxes itself with them; image builds without root use them.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { findProgram } from "../find-program.js";
import { runProgram } from "../process.js";
import { type CheckContext, type CheckResult, type HostCheck, SETUP_REMEDY } from "./check.js";

/** Ubuntu 24.04's switch that denies user namespaces to unconfined programs. */
const APPARMOR_SWITCH = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/** User and network namespaces. */
export const namespacesCheck: HostCheck = {
  id: "namespaces",
  title: "Namespaces",
  requiredFor: "image-build",
  run: checkNamespaces,
};

async function checkNamespaces({ platform, isRoot, deadline }: CheckContext): Promise<CheckResult> {
  if (platform !== "linux") return { status: "warn", found: "namespaces exist on Linux only" };
  try {
    await runProgram(["unshare", "--user", "--map-root-user", "--net", "true"], {
      timeoutMs: deadline.remainingMs,
      signal: deadline.signal,
    });
  } catch (error) {
    if (isSmolVMError(error, "HOST_UNSUPPORTED")) {
      return { status: "fail", found: "unshare is not installed", remedy: SETUP_REMEDY };
    }
    if (!isSmolVMError(error, "HOST_COMMAND_FAILED")) throw error;
    return { status: isRoot ? "warn" : "fail", found: `refused: ${error.message}`, remedy: await remedy() };
  }
  if (isRoot) return { status: "ok", found: "user and network namespaces work" };
  if (findProgram("newuidmap") === undefined) {
    return { status: "fail", found: "newuidmap is not installed", remedy: SETUP_REMEDY };
  }
  const user = userInfo().username;
  const ranges = await readFile("/etc/subuid", "utf8").catch(() => "");
  if (hasSubordinateIds(ranges, user)) return { status: "ok", found: "user and network namespaces work" };
  return {
    status: "fail",
    found: `/etc/subuid has no range for "${user}"`,
    remedy: `Run \`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user}\`.`,
  };
}

/** True when a subuid(5) file gives the user a range. */
export function hasSubordinateIds(subuid: string, user: string): boolean {
  return subuid.split("\n").some((line) => line.startsWith(`${user}:`));
}

async function remedy(): Promise<string> {
  if (existsSync(APPARMOR_SWITCH) && (await readFile(APPARMOR_SWITCH, "utf8")).trim() === "1") {
    return "Run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run SmolVM as root.";
  }
  return "Run `sudo sysctl user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1`, or run SmolVM as root.";
}
