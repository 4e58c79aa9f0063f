// npm run examples: compiles examples/ as a user of the package would, and runs each, or those named as arguments,
// in a state directory of its own. An example that ends with an error or leaves a VM behind fails the run.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { exitWith, mustRun, nodeProgram, run, Stop } from "./lib/child.mjs";
import { ROOT } from "./lib/root.mjs";

const EXAMPLES = join(ROOT, "examples");
/** Inside the checkout, so that `import "smolvm"` finds this package; git ignores it. */
const SCRATCH = join(ROOT, ".smolvm");

try {
  if (!existsSync(join(ROOT, "dist/index.js"))) throw new Stop("dist is missing: run `npm run build` first");
  mkdirSync(SCRATCH, { recursive: true });
  const outDir = mkdtempSync(join(SCRATCH, "examples-"));
  try {
    // Node 20 has no `await using`: tsc turns it into what Node 20 understands.
    const options = ["--outDir", outDir, "--rootDir", EXAMPLES, "--declaration", "false", "--sourceMap", "false"];
    const files = readdirSync(EXAMPLES).filter((name) => name.endsWith(".ts"));
    const sources = files.map((name) => join(EXAMPLES, name));
    const settings = ["--target", "ES2022", "--module", "NodeNext", "--lib", "ES2023,ESNext.Disposable", "--strict"];
    const quiet = ["--types", "node", "--skipLibCheck", "--ignoreConfig"];
    await mustRun(nodeProgram("typescript/bin/tsc", ...settings, ...quiet, ...options, ...sources));
    const asked = process.argv.slice(2).map((name) => basename(name, ".ts"));
    const names = files.map((name) => basename(name, ".ts"));
    const unknown = asked.find((name) => !names.includes(name));
    if (unknown !== undefined) throw new Stop(`There is no example "${unknown}": there are ${names.join(", ")}`);
    for (const name of asked.length > 0 ? asked : names) await runExample(name, join(outDir, `${name}.js`));
  } finally {
    rmSync(outDir, { recursive: true, force: true });
  }
} catch (error) {
  exitWith(error);
}

async function runExample(name, file) {
  const stateDir = mkdtempSync(join(tmpdir(), "smolvm-example-"));
  const env = { SMOLVM_STATE_DIR: stateDir };
  try {
    process.stdout.write(`--- ${name}\n`);
    const { code } = await run([process.execPath, file], { env, show: true });
    const left = existsSync(join(stateDir, "vms")) ? readdirSync(join(stateDir, "vms")) : [];
    if (left.length > 0) {
      await run([process.execPath, join(ROOT, "dist/cli/main.js"), "delete", "--all", "--force"], { env });
    }
    if (code !== 0) throw new Stop(`Example "${name}" ended with exit code ${code}`);
    if (left.length > 0) throw new Stop(`Example "${name}" left VMs: ${left.join(", ")}`);
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
}
