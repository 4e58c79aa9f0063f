// What `info().warnings` says of one subject, which its first words name: said anew as a whole, the rest stays.

import type { VmContext } from "./context.js";

/**
 * Replaces all warnings that begin with `start`. Writes nothing where nothing changes.
 *
 * @param lines What follows `start` in each new one; none: the matter is settled.
 */
export function replaceWarnings(ctx: VmContext, vmId: string, start: string, lines: readonly string[]): void {
  const before = ctx.store.vms.find(vmId)?.warnings ?? [];
  const others = before.filter((warning) => !warning.startsWith(start));
  const after = [...others, ...lines.map((line) => `${start}${line}`)];
  if (after.join("\n") !== before.join("\n")) ctx.store.vms.setWarnings(vmId, after);
}
