// Copies a file or directory of the host into the guest.

import { realpath } from "node:fs/promises";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { waitError } from "../../errors/wait-errors.js";
import type { CallExchange } from "../call-exchange.js";
import type { GuestConnection } from "../connection.js";
import { FieldWriter } from "../fields.js";
import { fileFailure } from "../files/file-failure.js";
import { type GuestPath, guestPath, shown } from "../files/guest-path.js";
import { joined } from "../files/list-directory.js";
import { GuestRefusal } from "../guest-refusal.js";
import { hasCode, hostConflict, hostFile } from "./host-failure.js";
import { givenHostPath, type HostPath, nameOf, onHost } from "./host-path.js";
import { RecordOutput } from "./record-output.js";
import { sendLargeFile } from "./send-large-file.js";
import { Tally } from "./tally.js";
import type { TransferOptions, TransferResult } from "./transfer.js";
import { readable } from "./tree-failure.js";
import { type PreparedEntry, prepareTree } from "./tree-source.js";

const SLASH = 0x2f;

/**
 * Copies what is at `hostPath` to `guestPath`: exactly there, or with a slash at the end into it, under its own name. An
 * existing directory is joined with a directory. The guest builds it aside and moves it there when it is whole, so what
 * fails leaves nothing. Links are copied as links; one at `hostPath` itself is followed.
 *
 * @returns What was copied, and what was left out: sockets, pipes, devices, and links that lead outside.
 * @throws {ENOENT} when there is nothing at `hostPath`. @throws {STORAGE_FAILED} when a file of the host cannot be read.
 * @throws A `GuestFileError` when the guest cannot take it, such as `EISDIR` for a file onto an existing directory.
 * @throws {TRANSFER_FAILED} when the guest says that the tree is broken: a defect of one of the two.
 * @throws {INVALID_CONFIG} @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function uploadTree(
  connection: GuestConnection,
  hostPath: string | Uint8Array,
  toPath: GuestPath,
  options: TransferOptions,
): Promise<TransferResult> {
  const { path } = givenHostPath(hostPath);
  const destination = destinationOf(guestPath(toPath, "guestPath"), path);
  const root = await followed(path);
  const { deadline, onProgress } = options;
  if (deadline.isAborted || deadline.hasExpired) throw waitError(`Upload of "${readable(path)}"`, deadline);
  const exchange = connection.exchange("fs.receive", new FieldWriter().bytes(10, destination), { deadline });
  const tally = new Tally(onProgress);
  let isWhole: boolean;
  try {
    isWhole = await send(exchange, root, tally);
  } catch (error) {
    exchange.cancel();
    await exchange.reply.catch(() => {}); // The guest has removed what it had of it then.
    throw error;
  }
  let taken: bigint | undefined;
  try {
    taken = (await exchange.reply).u64(21);
  } catch (error) {
    throw uploadFailure(error, destination);
  }
  if (!isWhole || taken !== BigInt(tally.entries)) throw notTaken(destination);
  tally.report();
  return tally.result();
}

/** @returns False when the guest took no more before the end. */
async function send(exchange: CallExchange, root: HostPath, tally: Tally): Promise<boolean> {
  const output = new RecordOutput(exchange, () => tally.report());
  for await (const entry of prepareTree(root)) {
    if (entry.record.path === "" && entry.record.kind === "leftOut") {
      throw hostConflict("EINVAL", `Cannot upload "${readable(root)}": it is a socket, pipe or device`, root);
    }
    // Where the guest takes nothing more, its answer says why.
    if (!output.isOpen) {
      await entry.large?.handle.close();
      return false;
    }
    await sendEntry(output, entry, tally);
  }
  await output.end();
  // Only now: a guest that answers while the end waits for its credit has not taken the end.
  const isWhole = output.isOpen;
  exchange.end();
  return isWhole;
}

/** A guest that says it is done with what it cannot have. */
function notTaken(path: Buffer): SmolVMError {
  const message = `Cannot upload to "${shown(path)}": the guest answered without having taken all of it`;
  return new SmolVMError("TRANSFER_FAILED", message, { details: { path: shown(path) } });
}

async function sendEntry(output: RecordOutput, { record, content, large }: PreparedEntry, tally: Tally): Promise<void> {
  tally.add(record);
  try {
    await output.entry(record);
    if (content !== undefined && content.length > 0) {
      await output.content(0, content);
      tally.addContent(content.length);
    }
    if (large === undefined || record.kind !== "file") return;
    await sendLargeFile(output, large, record.sizeBytes, (sizeBytes) => tally.addContent(sizeBytes));
  } finally {
    await large?.handle.close();
  }
}

/** With a slash at its end: into it, under the source's own name. */
function destinationOf(given: Buffer, source: HostPath): Buffer {
  if (given[given.length - 1] !== SLASH) return given;
  const name = nameOf(source);
  // Only "/" has no name, and is put in place of the directory itself.
  return guestPath(joined(given, onHost(name)), "guestPath");
}

async function followed(path: HostPath): Promise<HostPath> {
  return hostFile("Look at", path, async () => {
    try {
      return (await realpath(onHost(path), { encoding: "buffer" })).toString("latin1");
    } catch (error) {
      if (!hasCode(error, "ENOENT") && !hasCode(error, "ENOTDIR")) throw error;
      throw hostConflict("ENOENT", `Cannot upload "${readable(path)}": there is no such file on the host`, path);
    }
  });
}

function uploadFailure(error: unknown, path: Buffer): unknown {
  if (error instanceof GuestRefusal && error.errno === "EBADMSG") {
    const message = `Cannot upload to "${shown(path)}": the guest says that the tree is broken (${error.guestMessage})`;
    return new SmolVMError("TRANSFER_FAILED", message, { details: { path: shown(path) }, cause: error });
  }
  return fileFailure(error, { syscall: "upload", path });
}
