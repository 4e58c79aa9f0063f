// A state directory for one test, gone afterwards; and processes that are not there.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { ProcessIdentity } from "../../host/process-identity.js";
import { CacheStore } from "../cache-store.js";
import { Store } from "../store.js";

/** A new directory, removed when the running test ends. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-unit-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A store in a new directory, or one more in a given one; closed when the running test ends. */
export function scratchStore(stateDir = scratchDirectory()): Store {
  const store = new Store(stateDir);
  onTestFinished(() => store.close());
  return store;
}

/** A cache's store in a new directory, or one more in a given one; closed when the running test ends. */
export function scratchCacheStore(cacheDir = scratchDirectory()): CacheStore {
  const store = new CacheStore(cacheDir);
  onTestFinished(() => store.close());
  return store;
}

/** A process of an earlier boot: certainly dead. */
export function deadProcess(pid = 4711): ProcessIdentity {
  return { pid, startTime: "1", bootId: "an earlier boot" };
}
