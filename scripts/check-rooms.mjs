// Proves that biome.json enforces the table in scripts/lint/rooms.mjs: writes one small file per rule and per pair of
// rooms into a temporary directory, lints them all in one run, and compares what was refused with the table.

import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { RESERVED_GLOBALS, RESERVED_MODULES, ROOMS, RULES_EVERYWHERE } from "./lint/rooms.mjs";

const root = dirname(import.meta.dirname);
const IMPORT_RULE = "lint/style/noRestrictedImports";
const rooms = Object.keys(ROOMS);

/** @type {{ path: string, code: string, rule: string, refused: boolean }[]} */
const probes = [];

/** Adds one probe; `path` must be unique below src. */
function probe(path, code, rule, refused) {
  probes.push({ path, code: `${code}\n`, rule, refused });
}

const isIn = (path, places) => places.some((place) => (place.endsWith("/") ? path.startsWith(place) : path === place));

for (const room of rooms) {
  for (const target of rooms) {
    if (room === target) continue;
    const refused = !ROOMS[room].includes(target);
    const file = `probe-imports-${target}.ts`;
    probe(`src/${room}/${file}`, `export { x } from "../${target}/x.js";`, IMPORT_RULE, refused);
    probe(`src/${room}/inner/${file}`, `import "../../${target}/inner/x.js";`, IMPORT_RULE, refused);
    probe(
      `src/${room}/inner/probe-types-${target}.ts`,
      `export type { X } from "../../${target}/x.js";`,
      IMPORT_RULE,
      refused,
    );
    probe(
      `src/${room}/probe-later-${target}.ts`,
      `export const x = await import("../${target}/x.js");`,
      IMPORT_RULE,
      refused,
    );
  }
  const own = [`src/${room}/probe-own.ts`, `src/${room}/inner/probe-own.ts`];
  probe(own[0], 'export { x } from "./inner/x.js";', IMPORT_RULE, false);
  probe(own[1], 'export { x } from "../x.js";', IMPORT_RULE, false);
  RULES_EVERYWHERE.forEach(({ code, rule }, index) => {
    probe(`src/${room}/probe-rule-${index}.ts`, code, rule, true);
  });
}
const places = [...rooms.map((room) => `src/${room}/probe-PLACE.ts`), "src/host/process.ts", "src/host/paths.ts"];
for (const place of places) {
  const isExact = !place.includes("PLACE");
  for (const [index, [module, allowedIn]] of Object.entries(RESERVED_MODULES).entries()) {
    const path = isExact ? place : place.replace("PLACE", `module-${index}`);
    if (isExact && !allowedIn.includes(place)) continue;
    probe(path, `export * from "${module}";`, IMPORT_RULE, !isIn(path, allowedIn));
  }
  for (const [index, { code, rule, allowedIn }] of RESERVED_GLOBALS.entries()) {
    const path = isExact ? place : place.replace("PLACE", `global-${index}`);
    if (isExact && !allowedIn.includes(place)) continue;
    probe(path, code, rule, !isIn(path, allowedIn));
  }
}
probe(
  "src/vm/probe-cycle-a.ts",
  'import { b } from "./probe-cycle-b.js";\nexport const a = () => b;',
  "lint/suspicious/noImportCycles",
  true,
);
probe(
  "src/vm/probe-cycle-b.ts",
  'import { a } from "./probe-cycle-a.js";\nexport const b = () => a;',
  "lint/suspicious/noImportCycles",
  true,
);
probe("src/vm/probe-name.ts", 'export const f = (x: string) => x === "qemu";', "plugin", true);
probe("src/backends/probe-name.ts", 'export const f = (x: string) => x === "qemu";', "plugin", false);

process.exitCode = main();

function main() {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-rooms-"));
  try {
    const unlisted = readdirSync(join(root, "src"), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !rooms.includes(entry.name))
      .map((entry) => `src/${entry.name} is not in scripts/lint/rooms.mjs`);
    const found = lint(directory);
    const wrong = probes
      .filter(({ path, rule, refused }) => (found.get(path)?.has(rule) ?? false) !== refused)
      .map(({ path, rule, refused }) => `${path}: ${rule} should ${refused ? "refuse" : "accept"} it`);
    for (const line of [...unlisted, ...wrong]) console.error(`rooms: ${line}`);
    if (unlisted.length + wrong.length === 0) console.log(`rooms: ${probes.length} probes agree with the table`);
    return unlisted.length + wrong.length === 0 ? 0 : 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Lints the probes; gives for each path the rules that refused it. */
function lint(directory) {
  cpSync(join(root, "biome.json"), join(directory, "biome.json"));
  cpSync(join(root, "scripts/lint"), join(directory, "scripts/lint"), { recursive: true });
  for (const { path, code } of probes) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), code);
  }
  const biome = join(root, "node_modules/@biomejs/biome/bin/biome");
  const options = ["--vcs-enabled=false", "--max-diagnostics=none", "--reporter=json", "--log-level=none", "src"];
  const run = spawnSync(process.execPath, [biome, "lint", ...options], {
    cwd: directory,
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
  });
  const start = run.stdout.indexOf("{");
  if (start < 0) throw new Error(`Biome gave no report: ${run.stderr || run.stdout}`);
  const report = JSON.parse(run.stdout.slice(start));
  const found = new Map();
  for (const { location, category } of report.diagnostics) {
    const path = typeof location.path === "string" ? location.path : (location.path?.file ?? "");
    const rules = found.get(path) ?? new Set();
    found.set(path, rules.add(category));
  }
  return found;
}
