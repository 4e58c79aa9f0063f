// Whether a symbolic link of a tree stays in it, whatever other links of the tree do (docs/guest-protocol.md, "Files").

import { TREE_PATH_LIMIT_BYTES, type TreePath } from "./tree-record.js";

/**
 * Whether a link may be in a tree: its target is relative, `..` comes only before all names, and never above the root.
 * Then what comes after is walked downwards from a real directory of the tree, and a link on the way does the same.
 *
 * @param path The link's own, below the root. The root itself may not be a link: every target would lead outside.
 * @param strictly Refuses also a `.` before a `..`, which only some receivers take for harmless.
 */
export function staysInTree(path: TreePath, target: string, strictly: boolean): boolean {
  if (target.length === 0 || target.length > TREE_PATH_LIMIT_BYTES) return false;
  if (target.startsWith("/") || target.includes("\0") || path === "") return false;
  let upwards = path.split("/").length - 1;
  let mayClimb = true;
  for (const name of target.split("/")) {
    if (name === "") continue; // A slash more changes nothing.
    if (name === ".") {
      if (strictly) mayClimb = false;
    } else if (name !== "..") {
      mayClimb = false;
    } else {
      upwards -= 1;
      if (!mayClimb || upwards < 0) return false;
    }
  }
  return true;
}
