// The command line's own start.

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { timed } from "../stats.mjs";

const PROGRAM = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const [VERSION, BARE] = ["cli: smolvm --version", "cli: node -e 0"];
const WARM_UP = 10;

export const CLI = [{ names: [VERSION, BARE], measure: measureCli }];

/** Both in turn, so that a change of the machine's speed meets both. */
async function measureCli({ samples }) {
  const [cli, bare] = [[], []];
  for (let i = -WARM_UP; i < samples; i++) {
    const [, cliMs] = await timed(async () => execFileSync(process.execPath, [PROGRAM, "--version"]));
    const [, bareMs] = await timed(async () => execFileSync(process.execPath, ["-e", "0"]));
    if (i < 0) continue;
    cli.push(cliMs);
    bare.push(bareMs);
  }
  return { [VERSION]: cli, [BARE]: bare };
}
