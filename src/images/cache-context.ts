// What everything that puts artefacts into the cache is given.

import type { Deadline } from "../base/deadline.js";

/** One cache, on behalf of one program version, for one operation. */
export interface CacheContext {
  readonly cacheDir: string;
  readonly programVersion: string;
  readonly deadline: Deadline;
}
