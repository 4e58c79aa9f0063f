// Compiles what a child process needs of these sources, types unchecked: a test must not depend on a build.

import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const SOURCES = fileURLToPath(new URL("../../", import.meta.url));
const ROOMS = ["base", "errors", "host", "storage"];

/**
 * @param directory An empty directory to compile into.
 * @param name Of a program in `storage/testing`.
 * @returns The path of the compiled program.
 */
export function compileProgram(directory: string, name: "racer" | "opener"): string {
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true };
  for (const room of ROOMS) {
    for (const file of readdirSync(join(SOURCES, room), { recursive: true, encoding: "utf8" })) {
      if (!file.endsWith(".ts") || file.endsWith(".test.ts") || file.endsWith("compiled.ts")) continue;
      const path = join(directory, room, file.replace(/\.ts$/, ".js"));
      mkdirSync(dirname(path), { recursive: true });
      const text = readFileSync(join(SOURCES, room, file), "utf8");
      writeFileSync(path, ts.transpileModule(text, { compilerOptions }).outputText);
    }
  }
  writeFileSync(join(directory, "package.json"), '{"type":"module"}');
  symlinkSync(join(SOURCES, "../node_modules"), join(directory, "node_modules"));
  return join(directory, `storage/testing/${name}.js`);
}
