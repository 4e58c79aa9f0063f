// Copies a file or directory of the guest to the host. The guest is hostile: tree-decoder.ts and tree-rules.ts decide what
// may come, and what came is built aside and moved into place only when all of it is there.

import { posix } from "node:path";
import type { Deadline } from "../../base/deadline.js";
import { GuestFileError } from "../../errors/guest-file-error.js";
import { invalidConfig } from "../../errors/invalid-config.js";
import { waitError } from "../../errors/wait-errors.js";
import type { GuestConnection } from "../connection.js";
import { FieldWriter } from "../fields.js";
import { fileFailure } from "../files/file-failure.js";
import { type GuestPath, guestPath, shown } from "../files/guest-path.js";
import { violation } from "../violation.js";
import { below, givenHostPath, type HostPath } from "./host-path.js";
import { Place } from "./place.js";
import { Tally } from "./tally.js";
import type { DownloadOptions, TransferResult } from "./transfer.js";
import { TreeReceiver } from "./tree-receiver.js";

/** Content that is taken unless told otherwise, in bytes: a guest could send for ever. */
const CONTENT_LIMIT_BYTES = 64 * 1024 ** 3;
/** Symbolic links that are followed from the path asked for; as Linux does for one path (path_resolution(7)). */
const LINKS_LIMIT = 40;

/**
 * Copies what is at `fromPath` in the guest to `hostPath`: exactly there, or with a slash at the end into it, under its own
 * name. An existing directory is joined with a directory; a file or link replaces a file or link; nothing is written
 * through a link. All conflicts are seen before anything is moved, and what fails leaves nothing. Modes (0 to 0777) and
 * times come along, owners do not. Links are copied as links; one at `fromPath` itself is followed.
 *
 * @returns What was copied, and what was left out: sockets, pipes, devices, and links that lead outside.
 * @throws A `GuestFileError` when the guest cannot read it, e.g. `ENOENT`.
 * @throws {TRANSFER_FAILED} when the guest sends a tree that breaks the rules, ends early, or is over `maxBytes`.
 * @throws {EISDIR} @throws {ENOTDIR} @throws {EEXIST} when something else is in the way at `hostPath`.
 * @throws {STORAGE_FAILED} when the host cannot write it.
 * @throws {INVALID_CONFIG} @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function downloadTree(
  connection: GuestConnection,
  fromPath: GuestPath,
  hostPath: string | Uint8Array,
  options: DownloadOptions,
): Promise<TransferResult> {
  const download = new Download(connection, options);
  let source = guestPath(fromPath, "guestPath");
  const place = await Place.find(destinationOf(hostPath, source));
  try {
    for (let links = 0; links <= LINKS_LIMIT; links += 1) {
      const result = await download.from(source, place);
      if (result !== "link") return result;
      source = await download.follow(source);
    }
    throw new GuestFileError("ELOOP", { syscall: "download", path: shown(fromPath) });
  } finally {
    await place.close();
  }
}

class Download {
  readonly #connection: GuestConnection;
  readonly #options: DownloadOptions;
  readonly #limitBytes: number;

  constructor(connection: GuestConnection, options: DownloadOptions) {
    const { maxBytes = CONTENT_LIMIT_BYTES } = options;
    if (typeof maxBytes !== "number" || !(maxBytes >= 0)) {
      throw invalidConfig({ field: "maxBytes", value: maxBytes, expected: "a number of bytes, or Infinity" });
    }
    this.#connection = connection;
    this.#options = options;
    this.#limitBytes = maxBytes;
  }

  /** @returns `"link"` when the path is that of a symbolic link: nothing was copied then. */
  async from(source: Buffer, place: Place): Promise<TransferResult | "link"> {
    const { deadline, onProgress } = this.#options;
    throwIfOver(source, deadline);
    const tally = new Tally(onProgress);
    const receiver = new TreeReceiver(place, tally, { contentBytes: this.#limitBytes });
    try {
      const onData = (data: Buffer) => receiver.take(data);
      await this.#connection.exchange("fs.send", new FieldWriter().bytes(10, source), { deadline, onData }).reply;
      await receiver.complete();
      throwIfOver(source, deadline);
      await receiver.place();
      tally.report();
      return tally.result();
    } catch (error) {
      if (receiver.root === "link") return "link";
      if (receiver.root === "special") {
        const more = "it is a socket, pipe or device";
        throw new GuestFileError("EINVAL", { syscall: "download", path: shown(source), more });
      }
      throw fileFailure(error, { syscall: "download", path: source });
    } finally {
      await receiver.discard();
    }
  }

  /** Where a link of the guest leads: the guest's kernel finds its way from there. */
  async follow(source: Buffer): Promise<Buffer> {
    const { deadline } = this.#options;
    try {
      const reply = await this.#connection.call("fs.readlink", new FieldWriter().bytes(10, source), deadline);
      const target = reply.bytes(16)?.toString("latin1") ?? "";
      const path = target.startsWith("/") ? target : below(posix.dirname(source.toString("latin1")), target);
      if (target === "" || target.includes("\0")) throw violation("fs.readlink with a target that no link can have");
      return guestPath(Buffer.from(path, "latin1"), "guestPath");
    } catch (error) {
      throw fileFailure(error, { syscall: "readlink", path: source });
    }
  }
}

function throwIfOver(source: Buffer, deadline: Deadline): void {
  if (deadline.isAborted || deadline.hasExpired) throw waitError(`Download of "${shown(source)}"`, deadline);
}

/** With a slash at its end: into it, under the source's own name. */
function destinationOf(hostPath: string | Uint8Array, source: Buffer): HostPath {
  const { path, isInside } = givenHostPath(hostPath);
  // Normalized, so that no name is "." or "..".
  return isInside ? below(path, posix.basename(posix.normalize(source.toString("latin1")))) : path;
}
