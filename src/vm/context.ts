// What every operation on VMs works with.

import type { HostPaths } from "../host/paths.js";
import type { ImageStore } from "../images/image-store.js";
import type { CacheStore } from "../storage/cache-store.js";
import type { Store } from "../storage/store.js";
import type { GuestChannels } from "./guest-channels.js";

/** One state directory, opened. */
export interface VmContext {
  readonly paths: HostPaths;
  readonly store: Store;
  readonly images: ImageStore;
  readonly channels: GuestChannels;
  /** Opened when first needed. */
  cache(): CacheStore;
  close(): void;
  isClosed(): boolean;
}
