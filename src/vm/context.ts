// What every operation on VMs works with.

import type { Slots } from "../base/slots.js";
import type { HostPaths } from "../host/paths.js";
import type { ImageStore } from "../images/image-store.js";
import type { TapNetworks } from "../network/tap/tap-networks.js";
import type { CacheStore } from "../storage/cache-store.js";
import type { LeaseStore } from "../storage/lease-store.js";
import type { Store } from "../storage/store.js";
import type { HookRegistry } from "./command-hooks.js";
import type { GuestChannels } from "./guest-channels.js";
import type { TapChecks } from "./tap-checks.js";

/** One state directory, opened. */
export interface VmContext {
  readonly paths: HostPaths;
  readonly store: Store;
  readonly images: ImageStore;
  readonly channels: GuestChannels;
  /** What this program wants to hear of commands. */
  readonly hooks: HookRegistry;
  /** Starts of this program that go on at a time: on few processors many at once only make one another slow. */
  readonly starts: Slots;
  /** Opened when first needed. */
  cache(): CacheStore;
  /** The TAP networks of this network namespace, whosever VMs they are. Opened when first needed. */
  taps(): { readonly networks: TapNetworks; readonly leases: LeaseStore };
  readonly tapChecks: TapChecks;
  close(): void;
  isClosed(): boolean;
}
