// `smolvm completion`.

import { Argument } from "commander";
import type { CommandModule } from "../command.js";
import { bashScript } from "../completion/bash.js";
import { fishScript } from "../completion/fish.js";
import { zshScript } from "../completion/zsh.js";

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript };

export const command: CommandModule = {
  configure(command) {
    command.addArgument(new Argument("<shell>", "the shell").choices(Object.keys(SCRIPTS))).addHelpText(
      "after",
      `
To use it:
  bash: source <(smolvm completion bash)
  zsh:  source <(smolvm completion zsh)
  fish: smolvm completion fish | source`,
    );
  },

  async run({ commandTree }, { args: [shell] }) {
    const script = SCRIPTS[shell as keyof typeof SCRIPTS](await commandTree());
    return { data: { shell, script }, text: script };
  },
};
