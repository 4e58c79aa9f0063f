// Where this checkout is.

import { dirname } from "node:path";

/** The checkout's root directory. */
export const ROOT = dirname(dirname(import.meta.dirname));
