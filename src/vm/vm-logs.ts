// What a VM's logs say, as text.

import { CONSOLE_LOG, LOG_LIMIT_BYTES, readLog } from "./console-log.js";
import { readRefusals } from "./refusals.js";

/** Options of {@link readVmLogs}. */
export interface LogOptions {
  /** Only the last so many lines. */
  readonly tail?: number | undefined;
  /** Only one part; default both, the console first. */
  readonly source?: "console" | "network" | undefined;
}

/**
 * The end of the guest's serial console, and behind it a line for each thing that its network refused. About 1 MiB of each
 * is kept.
 */
export async function readVmLogs(directory: string, { tail, source }: LogOptions = {}): Promise<string> {
  const console = source === "network" ? "" : await readLog(directory, CONSOLE_LOG, LOG_LIMIT_BYTES);
  const refusals = source === "console" ? [] : await readRefusals(directory);
  const refused = refusals.map(({ at, message }) => `smolvm: ${at} network: ${message}\n`).join("");
  // A guest need not end its last line.
  const separator = console === "" || refused === "" || console.endsWith("\n") ? "" : "\n";
  const text = `${console}${separator}${refused}`;
  if (tail === undefined) return text;
  const lines = text.replace(/\n$/, "").split("\n");
  return lines.slice(Math.max(0, lines.length - tail)).join("\n");
}
