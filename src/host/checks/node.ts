// Is this Node one that SmolVM is written for?

import type { CheckResult, HostCheck } from "./check.js";
import { isAtLeast } from "./version.js";

/** First version with `import.meta.dirname`; the same as `engines.node` in package.json. */
const OLDEST_NODE = [20, 11] as const;

/** The running Node. */
export const nodeCheck: HostCheck = { id: "node", title: "Node.js", requiredFor: "run", run: checkNode };

async function checkNode(): Promise<CheckResult> {
  const found = `Node ${process.versions.node}`;
  if (isAtLeast(process.versions.node.split(".").map(Number), OLDEST_NODE)) return { status: "ok", found };
  return { status: "fail", found, remedy: `Install Node ${OLDEST_NODE.join(".")} or later.` };
}
