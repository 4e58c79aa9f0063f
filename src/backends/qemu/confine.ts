// What of root's rights a VMM is given.

import { SmolVMError } from "../../errors/smolvm-error.js";
import { findProgram } from "../../host/find-program.js";

/**
 * The command line for starting a VMM. As root it keeps its user, whose files it opens while it runs, and of the
 * capabilities only the one for files of other users: it cannot touch the host's network, processes or mounts. QEMU's own
 * seccomp filter comes on top.
 *
 * @throws {HOST_UNSUPPORTED} when this program is root and util-linux is not installed.
 */
export function confinedArgv(argv: readonly string[], isRoot = process.getuid?.() === 0): readonly string[] {
  if (!isRoot || process.platform !== "linux") return argv;
  const setpriv = findProgram("setpriv");
  if (setpriv === undefined) {
    throw new SmolVMError("HOST_UNSUPPORTED", 'Cannot start microVMs as root: "setpriv" is not installed', {
      details: { program: "setpriv" },
      hint: "Install it with `smolvm setup`, or on Debian and Ubuntu with: apt-get install util-linux",
    });
  }
  const capabilities = ["--bounding-set=-all,+dac_override", "--inh-caps=-all", "--ambient-caps=-all"];
  return [setpriv, "--no-new-privs", ...capabilities, "--", ...argv];
}
