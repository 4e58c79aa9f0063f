// Takes a fresh checkout to the point where SmolVM runs: npm packages, TypeScript, host packages, Go programs, image.
// Each step does nothing when its result is there; only the first run downloads anything.

import { Stop } from "./child.mjs";
import { compileTypeScript } from "./compile.mjs";
import { buildGo } from "./go.mjs";
import { ensureNodeModules } from "./node-modules.mjs";
import { ROOT } from "./root.mjs";

/** Image that quickstart, tests and benchmarks boot. */
const DEFAULT_IMAGE = "debian";

/**
 * @param {import("./phases.mjs").Phases} phases
 * @param {{ signal?: AbortSignal }} [options]
 */
export async function prepare(phases, { signal } = {}) {
  await phases.run("npm packages", ensureNodeModules);
  await phases.run("compile", compileTypeScript);
  await phases.run("host set-up", (onProgress) => setUpHost(onProgress, signal));
  await phases.run("guest agent", (onProgress) => buildGo({ onProgress }));
  await phases.run("image", async (onProgress) => {
    const { prepareImage } = await import(`${ROOT}/dist/index.js`);
    await prepareImage(DEFAULT_IMAGE, { onProgress, signal });
  });
}

async function setUpHost(onProgress, signal) {
  // Not through dist/index.js: the public set-up is for users, who need no Go.
  const { runSetup } = await import(`${ROOT}/dist/host/setup.js`);
  const report = await runSetup({ forBuilding: true, onProgress, signal });
  if (report.status === "manual") throw new Stop(manualText(report));
  const { runDoctor } = await import(`${ROOT}/dist/host/doctor.js`);
  const { ok, checks } = await runDoctor({ signal });
  if (ok) return;
  const failed = checks.filter((check) => check.status === "fail" && check.isRequired);
  const lines = failed.map(({ title, found, remedy }) => `  ${title}: ${found}${remedy ? `\n    ${remedy}` : ""}`);
  throw new Stop(["This host cannot run SmolVM yet:", ...lines].join("\n"));
}

function manualText({ reason, missing, unavailable, commands }) {
  const needed = missing.map(({ name, purpose }) => `  ${name}: ${purpose}`);
  const lines = [`This host lacks some packages, and ${reason}.`, "Missing:", ...needed];
  if (unavailable.length > 0) lines.push(`No package source here offers: ${unavailable.join(", ")}`);
  if (commands.length > 0) lines.push("Run this, then start again:", ...commands.map((command) => `  ${command}`));
  return lines.join("\n");
}
