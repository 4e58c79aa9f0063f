// `smolvm ssh`: OpenSSH's client into a VM, with everything that it has to be told.

import { invalidConfig } from "../../errors/invalid-config.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { SshAccess } from "../../index.js";
import type { CommandModule } from "../command.js";

interface SshOptions {
  readonly config?: boolean;
}

export const command: CommandModule<SshOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of a VM that was created with --ssh")
      .argument("[argv...]", "a command, as ssh takes it; put -- before it")
      .option("--config", "print a configuration for `ssh -F FILE`, editors, scp and the like")
      .usage("<vm> [options] [-- argv...]");
  },

  async run({ host, signal, isJson }, { args: [vmId = "", ...argv], options }) {
    const { SmolVM } = await host.loadSdk();
    const access = await (await SmolVM.fromId(vmId)).ssh({ signal });
    if (options.config === true && argv.length > 0) {
      throw invalidConfig({ field: "argv", value: argv.join(" "), expected: "no command together with --config" });
    }
    if (isJson || options.config === true) return { data: access, text: configOf(vmId, access) };
    if ((host.env["SMOLVM_HOOKS"] ?? "") !== "") throw unseen(vmId);
    const exitCode = await host.runAttached(["ssh", ...access.options, access.host, ...argv], signal);
    if (exitCode === 0) return { data: access };
    const failure = new SmolVMError("COMMAND_FAILED", `ssh exited with ${exitCode}`);
    return { data: access, exitCode, failures: [failure], isQuiet: true };
  },
};

/** OpenSSH's own sessions are nobody's commands: what is to be seen and refused does not run unseen. */
function unseen(vmId: string): SmolVMError {
  return new SmolVMError(
    "COMMAND_REFUSED",
    `Cannot connect to VM "${vmId}" with ssh: the hooks of SMOLVM_HOOKS would not see it`,
    {
      details: { vmId },
      hint: "Use `smolvm exec` or `smolvm shell`, or unset SMOLVM_HOOKS.",
    },
  );
}

/** The options as OpenSSH's configuration has them: `-o Name=value` is a line `Name value`. */
function configOf(vmId: string, { host, options }: SshAccess): string {
  const lines = options.flatMap((option, index) => {
    if (options[index - 1] !== "-o") return [];
    const end = option.indexOf("=");
    return [`  ${option.slice(0, end)} ${option.slice(end + 1)}`];
  });
  return [`Host ${vmId}`, `  HostName ${host}`, ...lines].join("\n");
}
