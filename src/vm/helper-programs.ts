// The programs that were built with this package, beside its JavaScript.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SmolVMError } from "../errors/smolvm-error.js";

/** `agent` runs in the guest, the others on the host. */
export type HelperProgram = "agent" | "hostfs" | "logkeeper" | "netguard" | "portd" | "ramcopy" | "tapguard";

const DIRECTORY = new URL("../programs/", import.meta.url);
/** Go's names of Node's architectures. */
const GO_ARCHITECTURE: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Where a program is, or would be. */
export function helperLocation(name: HelperProgram): string {
  return fileURLToPath(new URL(`${name}-${GO_ARCHITECTURE[process.arch] ?? process.arch}`, DIRECTORY));
}

/** @throws {HOST_UNSUPPORTED} when the program was not built. */
export function helperPath(name: HelperProgram): string {
  const path = helperLocation(name);
  if (existsSync(path)) return path;
  throw new SmolVMError("HOST_UNSUPPORTED", `Cannot find SmolVM's own program "${name}" at "${path}"`, {
    details: { program: name, path },
    hint: "In a checkout, build it with `npm run build`.",
  });
}

/** Version of this package. */
export function programVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
