// Who may import whom, as data. biome.json enforces it; scripts/check-rooms.mjs proves that it does.

/** For each folder below src: the folders that it may import. `index` is src/index.ts. */
export const ROOMS = {
  base: [],
  errors: ["base"],
  host: ["base", "errors"],
  storage: ["base", "errors", "host"],
  images: ["base", "errors", "host"],
  network: ["base", "errors", "host"],
  guest: ["base", "errors", "host"],
  backends: ["base", "errors", "host"],
  vm: ["base", "errors", "host", "storage", "images", "network", "guest", "backends"],
  sdk: ["base", "errors", "vm"],
  cli: ["base", "errors", "sdk"],
};

/** Modules that only the named files may import; a path that ends in "/" is a whole folder. */
export const RESERVED_MODULES = {
  "node:child_process": ["src/host/process.ts"],
  "@photostructure/sqlite": ["src/storage/"],
};

/** Globals that only the named places may use: the code to try, the rule that must refuse it, the places. */
export const RESERVED_GLOBALS = [
  {
    code: "export const probe = process.env['PROBE'];",
    rule: "lint/style/noProcessEnv",
    allowedIn: ["src/host/paths.ts", "src/cli/"],
  },
  { code: "console.log('probe');", rule: "lint/suspicious/noConsole", allowedIn: ["src/cli/"] },
  { code: "process.exit(1);", rule: "plugin", allowedIn: ["src/cli/"] },
];

/** Rules that hold in every folder: the code to try and the rule that must refuse it. */
export const RULES_EVERYWHERE = [
  { code: "export function probe(): void { throw new Error('x'); }", rule: "plugin" },
  {
    code: "async function later(): Promise<void> {}\nexport function probe(): void { later(); }",
    rule: "lint/nursery/noFloatingPromises",
  },
  {
    code: `export function probe(): number[] {\n  return [\n${"    1,\n".repeat(71)}  ];\n}`,
    rule: "lint/complexity/noExcessiveLinesPerFunction",
  },
  { code: "export const probe = 1;\n".repeat(401), rule: "lint/style/noExcessiveLinesPerFile" },
  {
    code: "export function probe(a: number, b: number, c: number, d: number, e: number): number { return a + b + c + d + e; }",
    rule: "lint/complexity/useMaxParams",
  },
];
