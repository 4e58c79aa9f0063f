// npm run check: format, lint, types, rooms, generated documents, Go's own checks. Changes nothing.

import { existsSync } from "node:fs";
import { exitWith, nodeProgram, run, Stop } from "./lib/child.mjs";
import { AGENT_DIR, GO_ENV, hasGo } from "./lib/go.mjs";
import { ensureNodeModules } from "./lib/node-modules.mjs";

const go = { cwd: AGENT_DIR, env: GO_ENV };

/** Each check: its name, its argv, and whether any output at all means failure. */
const CHECKS = [
  {
    name: "format and lint",
    argv: nodeProgram("@biomejs/biome/bin/biome", "ci", "--colors=off", "--error-on-warnings", "."),
  },
  { name: "types", argv: nodeProgram("typescript/bin/tsc", "-p", "tsconfig.check.json") },
  { name: "rooms", argv: [process.execPath, "scripts/check-rooms.mjs"] },
  { name: "generated documents", argv: [process.execPath, "scripts/generate-docs.mjs", "--check"] },
];
const GO_CHECKS = [
  { name: "gofmt", argv: ["gofmt", "-l", "."], options: go, isSilent: true },
  { name: "go vet", argv: ["go", "vet", "./..."], options: go },
];

try {
  await ensureNodeModules(() => {});
  const withGo = existsSync(AGENT_DIR) && (await hasGo());
  if (!withGo) console.log("go: not checked, there is no Go here");
  const results = await Promise.all([...CHECKS, ...(withGo ? GO_CHECKS : [])].map(check));
  if (results.includes(false)) throw new Stop("check: failed; `npm run fix` corrects format and some lint");
  console.log(`check: ${results.length} checks passed`);
} catch (error) {
  exitWith(error);
}

async function check({ name, argv, options, isSilent = false }) {
  const { code, output } = await run(argv, options);
  const isFine = code === 0 && !(isSilent && output.trim() !== "");
  console.log(isFine ? `${name}: ok` : `${name}: FAILED\n${output.trimEnd()}`);
  return isFine;
}
