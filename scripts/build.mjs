// npm run build: TypeScript and Go to dist. `--all-architectures` builds anew for every architecture, for a package.

import { exitWith, Stop } from "./lib/child.mjs";
import { compileTypeScript, removeDist } from "./lib/compile.mjs";
import { buildGo, hasGo } from "./lib/go.mjs";
import { ensureNodeModules } from "./lib/node-modules.mjs";
import { Phases } from "./lib/phases.mjs";

const allArchitectures = process.argv.includes("--all-architectures");

try {
  const phases = new Phases();
  await phases.run("npm packages", ensureNodeModules);
  if (allArchitectures) removeDist();
  await phases.run("compile", compileTypeScript);
  if (!(await hasGo())) throw new Stop("Go is not installed: `npm run quickstart` installs it, or names the command.");
  await phases.run("guest agent", (onProgress) => buildGo({ allArchitectures, onProgress }));
} catch (error) {
  exitWith(error);
}
