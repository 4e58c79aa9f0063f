// Some rooms of src, compiled without their types being checked, for programs that tests start elsewhere: a test must not
// depend on a build.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import ts from "typescript";

const ROOT = join(import.meta.dirname, "../..");
const ROOMS = ["base", "errors", "host", "storage", "network"];

/** Where the compiled rooms are; gone at the end of the scope. */
export interface CompiledRooms extends Disposable {
  readonly directory: string;
}

export function compileRooms(): CompiledRooms {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-rooms-"));
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true };
  for (const room of ROOMS) {
    for (const file of readdirSync(join(ROOT, "src", room), { recursive: true, encoding: "utf8" })) {
      if (!file.endsWith(".ts") || file.endsWith(".test.ts") || file.includes("testing/")) continue;
      const path = join(directory, room, file.replace(/\.ts$/, ".js"));
      mkdirSync(dirname(path), { recursive: true });
      const text = readFileSync(join(ROOT, "src", room, file), "utf8");
      writeFileSync(path, ts.transpileModule(text, { compilerOptions }).outputText);
    }
  }
  writeFileSync(join(directory, "package.json"), '{"type":"module"}');
  symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
  return { directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
}
