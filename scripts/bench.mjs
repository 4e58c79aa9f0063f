// npm run bench: set-up, then the figures of bench/rows. JSON on stdout, a table on stderr.
// Options: --n N (samples of each row, default 30), --only TEXT (rows whose name has it).

import { parseArgs } from "node:util";
import { runBench } from "../bench/run.mjs";
import { exitWith } from "./lib/child.mjs";
import { Phases } from "./lib/phases.mjs";
import { prepare } from "./lib/prepare.mjs";

const { values } = parseArgs({
  options: { n: { type: "string", default: "30" }, only: { type: "string", default: "" } },
});

try {
  await prepare(new Phases());
  const report = await runBench({ samples: Number(values.n), only: values.only });
  process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
} catch (error) {
  exitWith(error);
}
