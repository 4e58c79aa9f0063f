// Opens a state directory.

import { availableParallelism } from "node:os";
import { Deadline } from "../base/deadline.js";
import { Slots } from "../base/slots.js";
import { debianMirror, hostPaths } from "../host/paths.js";
import { NETWORK_DIRECTORY } from "../host/tap-needs.js";
import { ImageStore } from "../images/image-store.js";
import { TAP_LEASES } from "../network/tap/addresses.js";
import { TapNetworks } from "../network/tap/tap-networks.js";
import { CacheStore } from "../storage/cache-store.js";
import { LeaseStore } from "../storage/lease-store.js";
import { Store } from "../storage/store.js";
import { HookRegistry } from "./command-hooks.js";
import type { VmContext } from "./context.js";
import { GuestChannels } from "./guest-channels.js";
import { helperLocation, programVersion } from "./helper-programs.js";
import { TapChecks } from "./tap-checks.js";

/** How long somebody waits for another process's image build unless asked otherwise, in milliseconds. */
const LOCK_TIMEOUT_MS = 30 * 60_000;

/** Starts at a time where there is one processor: part of a start is waiting. */
const LEAST_STARTS = 2;

/** @throws {STORAGE_FAILED} */
export function openContext(stateDir?: string): VmContext {
  const paths = hostPaths({ stateDir });
  let cacheStore: CacheStore | undefined;
  const cache = () => {
    cacheStore ??= new CacheStore(paths.cacheDir);
    return cacheStore;
  };
  const images = new ImageStore({
    cacheDir: paths.cacheDir,
    agentPath: helperLocation("agent"),
    mirror: debianMirror(),
    programVersion: programVersion(),
    withLock: (key, body, options) => cache().locks.withLock(key, body, Deadline.from(options, LOCK_TIMEOUT_MS)),
  });
  const store = new Store(paths.stateDir);
  const channels = new GuestChannels(store);
  let opened: ReturnType<VmContext["taps"]> | undefined;
  const taps = () => {
    opened ??= openTaps();
    return opened;
  };
  let isClosed = false;
  const close = () => {
    isClosed = true;
    channels.close();
    store.close();
    cacheStore?.close();
    // What this program has removed may still be on its way out.
    void opened?.networks.settled().then(() => opened?.leases.close());
  };
  const starts = new Slots(Math.max(LEAST_STARTS, availableParallelism()));
  const hooks = new HookRegistry();
  const parts = { paths, store, images, channels, hooks, starts, tapChecks: new TapChecks() };
  return { ...parts, cache, taps, close, isClosed: () => isClosed };
}

function openTaps(): ReturnType<VmContext["taps"]> {
  const leases = new LeaseStore(NETWORK_DIRECTORY, { leases: TAP_LEASES });
  return { leases, networks: new TapNetworks(leases) };
}
