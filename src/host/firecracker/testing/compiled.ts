// Compiles the installer for a child process, types unchecked: a test must not depend on a build.

import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import ts from "typescript";

const SOURCES = join(import.meta.dirname, "../../..");
const ROOMS = ["base", "errors", "host"];
const NOT_COMPILED = [".test.ts", "compiled.ts", "release-server.ts"];

/**
 * @param directory An empty directory to compile into.
 * @returns The path of the compiled program.
 */
export function compileInstaller(directory: string): string {
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true };
  for (const room of ROOMS) {
    for (const file of readdirSync(join(SOURCES, room), { recursive: true, encoding: "utf8" })) {
      if (!file.endsWith(".ts") || NOT_COMPILED.some((end) => file.endsWith(end))) continue;
      const path = join(directory, room, file.replace(/\.ts$/, ".js"));
      mkdirSync(dirname(path), { recursive: true });
      const text = readFileSync(join(SOURCES, room, file), "utf8");
      writeFileSync(path, ts.transpileModule(text, { compilerOptions }).outputText);
    }
  }
  writeFileSync(join(directory, "package.json"), '{"type":"module"}');
  symlinkSync(join(SOURCES, "../node_modules"), join(directory, "node_modules"));
  return join(directory, "host/firecracker/testing/installer.js");
}
