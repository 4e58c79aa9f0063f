// One process at a time builds or removes images. The lock itself comes from another room.

import type { Deadline, WaitOptions } from "../base/deadline.js";

/** Runs `body` while no other process runs one with the same key. */
export type WithLock = <T>(key: string, body: () => Promise<T>, options: WaitOptions) => Promise<T>;

/** {@link WithLock} with this room's key, until a deadline. */
export type LockImages = <T>(body: () => Promise<T>, deadline: Deadline) => Promise<T>;

/** Held while images are built or removed; not while they are opened. */
const LOCK_KEY = "images";

/** Binds `withLock` to this room's key. */
export function imagesLock(withLock: WithLock): LockImages {
  return (body, deadline) => withLock(LOCK_KEY, body, { signal: deadline.signal, timeoutMs: deadline.remainingMs });
}
