// What of root's rights a VMM is given.

import { SmolVMError } from "../../errors/smolvm-error.js";
import { hasInheritedCapabilities } from "../../host/capabilities.js";
import { findProgram } from "../../host/find-program.js";

/** Root, or an ordinary user to whom capabilities were given that a child would inherit, as TAP networks need them. */
type Rights = "root" | "capabilities" | "none";

function ownRights(): Rights {
  if (process.platform !== "linux") return "none";
  if (process.getuid?.() === 0) return "root";
  return hasInheritedCapabilities() ? "capabilities" : "none";
}

/**
 * The command line for starting a VMM. As root it keeps its user, whose files it opens while it runs, and of the
 * capabilities only the one for files of other users: it cannot touch the host's network, processes or mounts. QEMU's own
 * seccomp filter comes on top. Capabilities that an ordinary user was given are not handed on at all.
 *
 * @throws {HOST_UNSUPPORTED} when there are rights to take away and util-linux is not installed.
 */
export function confinedArgv(argv: readonly string[], rights: Rights = ownRights()): readonly string[] {
  if (rights === "none") return argv;
  const setpriv = findProgram("setpriv");
  if (setpriv === undefined) {
    throw new SmolVMError("HOST_UNSUPPORTED", 'Cannot start microVMs with these rights: "setpriv" is not installed', {
      details: { program: "setpriv" },
      hint: "Install it with `smolvm setup`, or on Debian and Ubuntu with: apt-get install util-linux",
    });
  }
  // Who is not root may not make the bounding set smaller; with no_new_privs it is of no use to anybody.
  const bounds = rights === "root" ? ["--bounding-set=-all,+dac_override"] : [];
  const capabilities = [...bounds, "--inh-caps=-all", "--ambient-caps=-all"];
  return [setpriv, "--no-new-privs", ...capabilities, "--", ...argv];
}
