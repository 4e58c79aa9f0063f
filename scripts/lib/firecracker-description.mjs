// Where Firecracker's description of its own API (swagger, YAML) is on this machine, if it is. It is not part of this
// repository; the facts that tests need are in FACTS_FILE.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "./root.mjs";

/** The version of Firecracker that the facts are of. */
export const FACTS_VERSION = "1.16.1";
/** The facts, as data. */
export const FACTS_FILE = join(ROOT, "src/backends/firecracker/api/testing/description-1.16.json");

/** The description's path: SMOLVM_FIRECRACKER_API, else beside the checkout; `undefined` where there is no such file. */
export function findDescription() {
  const beside = join(dirname(ROOT), "shared/firecracker", `firecracker-v${FACTS_VERSION}.yaml`);
  const path = process.env.SMOLVM_FIRECRACKER_API || beside;
  return existsSync(path) ? path : undefined;
}
