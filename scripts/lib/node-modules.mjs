// Brings node_modules to what package-lock.json says, without touching it when it is there already.

import { readFileSync } from "node:fs";
import { mustRun } from "./child.mjs";
import { ROOT } from "./root.mjs";

/** Installs the locked packages if any is missing or of another version. */
export async function ensureNodeModules(onProgress) {
  if (isInstalled()) return;
  onProgress({ step: "Installing npm packages" });
  // Started by npm: use that very npm. No package here needs its install script.
  const npm = process.env.npm_execpath;
  const argv = npm?.endsWith(".js") ? [process.execPath, npm] : ["npm"];
  await mustRun([...argv, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
}

function isInstalled() {
  try {
    const wanted = packagesOf("package-lock.json");
    const present = packagesOf("node_modules/.package-lock.json");
    return Object.entries(wanted).every(
      ([path, { version, optional }]) => path === "" || optional || present[path]?.version === version,
    );
  } catch {
    return false;
  }
}

function packagesOf(file) {
  return JSON.parse(readFileSync(`${ROOT}/${file}`, "utf8")).packages;
}
