// Opens a state directory.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { debianMirror, hostPaths } from "../host/paths.js";
import { ImageStore } from "../images/image-store.js";
import { Store } from "../storage/store.js";
import type { VmContext } from "./context.js";
import { GuestChannels } from "./guest-channels.js";

/** How long somebody waits for another process's image build unless asked otherwise, in milliseconds. */
const LOCK_TIMEOUT_MS = 30 * 60_000;

/** Programs that were built with this package, beside its JavaScript: `dist/programs`. */
const HELPERS = new URL("../programs/", import.meta.url);
/** Go's names of Node's architectures. */
const GO_ARCHITECTURE: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** @throws {STORAGE_FAILED} */
export function openContext(stateDir?: string): VmContext {
  const paths = hostPaths({ stateDir });
  const store = new Store(paths.stateDir);
  const images = new ImageStore({
    cacheDir: paths.cacheDir,
    agentPath: helperPath("agent"),
    mirror: debianMirror(),
    programVersion: programVersion(),
    withLock: (key, body, options) => store.locks.withLock(key, body, Deadline.from(options, LOCK_TIMEOUT_MS)),
  });
  return { paths, store, images, channels: new GuestChannels(store), helperPath };
}

/** Version of this package. */
export function programVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

function helperPath(name: "agent" | "logkeeper" | "netguard"): string {
  const path = fileURLToPath(new URL(`${name}-${GO_ARCHITECTURE[process.arch] ?? process.arch}`, HELPERS));
  if (existsSync(path)) return path;
  throw new SmolVMError("HOST_UNSUPPORTED", `Cannot find SmolVM's own program "${name}" at "${path}"`, {
    details: { program: name, path },
    hint: "In a checkout, build it with `npm run build`.",
  });
}
