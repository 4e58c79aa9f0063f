// The version of this package. Loaded by the fast path of `--version`, so it imports next to nothing.

import { readFileSync } from "node:fs";

/** As package.json has it; it lies two levels above both src/cli and dist/cli. */
export function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
