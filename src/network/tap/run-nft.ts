// Gives commands to nft, as one transaction, and turns what it says of failures into ours.

import { randomUUID } from "node:crypto";
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../../host/process.js";
import type { NftCommand } from "./nft-command.js";

/** How a run is different from an ordinary one. */
export interface RunNftOptions {
  /** Only asks whether the kernel would take the commands. */
  readonly isTrial?: boolean;
}

/**
 * Runs commands; all of them are in force afterwards, or none.
 *
 * @throws {NETWORK_FAILED} when the kernel or nft refuses them; details hold stderr.
 * @throws {HOST_UNSUPPORTED} when there is no nft. @throws {TIMEOUT} {ABORTED}
 */
export async function runNft(
  commands: readonly NftCommand[],
  deadline: Deadline,
  { isTrial = false }: RunNftOptions = {},
): Promise<void> {
  const file = unlinkedFile(JSON.stringify({ nftables: commands }));
  try {
    // By way of our own descriptor: nft opens /dev/stdin by name, which is impossible for the socket pair that Node.js
    // makes of a pipe; and arguments could be read by every user.
    const argv = ["nft", "-j", ...(isTrial ? ["-c"] : []), "-f", `/proc/${process.pid}/fd/${file}`];
    await runProgram(argv, { timeoutMs: deadline.remainingMs, signal: deadline.signal });
  } catch (error) {
    if (!isSmolVMError(error, "HOST_COMMAND_FAILED")) throw error;
    const stderr = String(error.details["stderr"] ?? "");
    throw new SmolVMError("NETWORK_FAILED", `nft refused the rules: ${summaryOf(stderr)}`, {
      details: { stderr },
      cause: error,
    });
  } finally {
    closeSync(file);
  }
}

/** True when commands failed because something that they build on is not there: it was flushed, or never made. */
export function isMissing(error: unknown): boolean {
  return (
    isSmolVMError(error, "NETWORK_FAILED") && String(error.details["stderr"]).includes("No such file or directory")
  );
}

/** Of nft's text, the line that says what is wrong. The others show the command. */
function summaryOf(stderr: string): string {
  return /Error: (.*)/.exec(stderr)?.[1] ?? (stderr.trim().split("\n").pop() || "no reason given");
}

/** A file without a name: it goes with its descriptor. */
function unlinkedFile(text: string): number {
  const path = join(tmpdir(), `smolvm-nft-${randomUUID()}`);
  const file = openSync(path, "wx+", 0o600);
  try {
    unlinkSync(path);
    const bytes = Buffer.from(text);
    for (let offset = 0; offset < bytes.length; ) offset += writeSync(file, bytes, offset);
    return file;
  } catch (error) {
    closeSync(file);
    throw error;
  }
}
