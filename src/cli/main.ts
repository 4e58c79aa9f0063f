#!/usr/bin/env node
// The program `smolvm`. `--version` is answered here; everything else loads what it needs.

import { packageVersion } from "./version.js";

const argv = process.argv.slice(2);
const isVersionOnly = argv.length === 1 && (argv[0] === "--version" || argv[0] === "-V");

if (isVersionOnly) {
  process.stdout.on("error", () => {}); // A reader that is gone is no failure of ours.
  process.stdout.write(`${packageVersion()}\n`);
} else {
  const { runProcess } = await import("./run-process.js");
  await runProcess(argv);
}
