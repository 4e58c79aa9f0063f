// `vm.fs`: the guest's files in the shape of `node:fs/promises`, worked on as root. Paths are absolute; bytes are kept.

import { Deadline, type WaitOptions } from "../../base/deadline.js";
import { invalidConfig } from "../../errors/invalid-config.js";
import { FieldWriter } from "../fields.js";
import { violation } from "../violation.js";
import { checkOptions } from "./check-options.js";
import type { FileContent } from "./feed.js";
import { type Connect, FileClient, SMALL_TIMEOUT_MS } from "./file-client.js";
import { readContent, writeContent } from "./file-content.js";
import {
  checkEncoding,
  type EncodingOptions,
  type FileMode,
  type MkdirOptions,
  nameEncoding,
  parseMode,
  type ReaddirOptions,
  type ReadFileOptions,
  type ReadlinkOptions,
  type ReadStreamOptions,
  type RmOptions,
  type WriteFileOptions,
  type WriteStreamOptions,
} from "./file-options.js";
import { type FileTime, fileTime } from "./file-time.js";
import { GuestDirent } from "./guest-dirent.js";
import { type GuestPath, guestPath, linkTarget, PATH_LIMIT_BYTES } from "./guest-path.js";
import { GuestReadStream } from "./guest-read-stream.js";
import { GuestStats } from "./guest-stats.js";
import { GuestWriteStream } from "./guest-write-stream.js";
import { joined, listDirectory } from "./list-directory.js";

/** All that `access` can be asked: R_OK, W_OK and X_OK together (access(2)). */
const ACCESS_LIMIT = 7;

const noData = (): never => {
  throw violation("data where there is none");
};

/** Options, or an encoding alone. */
type WithEncoding<T> = T | BufferEncoding | null;
/** Options that ask for text. */
type AsText<T> = (T & { readonly encoding: BufferEncoding }) | BufferEncoding;
type AsBytes<T> = (T & { readonly encoding: "buffer" }) | "buffer";

/**
 * Every method takes `signal` and `timeoutMs` (default: 30 s for those that move no content, else no limit) and fails with:
 *
 * @throws A `GuestFileError` with Node.js's codes (`ENOENT`, `EACCES`, ...) when the guest refused.
 * @throws {INVALID_CONFIG} on an argument that cannot be sent, an option that the method does not have, or one of a wrong
 *   type; the guest has not heard of it then.
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export class GuestFiles {
  readonly #client: FileClient;

  /** @param connect Gives an open connection to the VM's agent; called once for every operation. */
  constructor(connect: Connect) {
    this.#client = new FileClient(connect);
  }

  /** @returns The content: text when an encoding is given, else bytes. @throws {EFBIG} when it is over `maxBytes`. */
  readFile(path: GuestPath, options: AsText<ReadFileOptions>): Promise<string>;
  readFile(
    path: GuestPath,
    options?: (ReadFileOptions & { readonly encoding?: null | undefined }) | null,
  ): Promise<Buffer>;
  readFile(path: GuestPath, options?: WithEncoding<ReadFileOptions>): Promise<string | Buffer>;
  async readFile(path: GuestPath, options?: WithEncoding<ReadFileOptions>): Promise<string | Buffer> {
    const given = checkOptions("readFile", options);
    const encoding = checkEncoding(given.encoding);
    const content = await readContent(this.#client, path, given);
    return encoding === undefined ? content : content.toString(encoding);
  }

  /** Writes a file, emptying one that is there unless the flag says otherwise. What fails may leave a part of it. */
  async writeFile(path: GuestPath, data: FileContent, options?: WithEncoding<WriteFileOptions>): Promise<void> {
    await writeContent(this.#client, path, data, checkOptions("writeFile", options));
  }

  /** As `writeFile` with flag `"a"`. */
  async appendFile(path: GuestPath, data: FileContent, options?: WithEncoding<WriteFileOptions>): Promise<void> {
    const given = checkOptions("appendFile", options);
    // A flag that is there but undefined must not empty the file either.
    await writeContent(this.#client, path, data, { ...given, flag: given.flag ?? "a" });
  }

  /** @returns With `recursive`: the first directory that was made, if any. */
  async mkdir(path: GuestPath, options?: FileMode | MkdirOptions | null): Promise<string | undefined> {
    const given = checkOptions("mkdir", options);
    const bytes = guestPath(path);
    const fields = new FieldWriter().bytes(10, bytes).u32(14, parseMode(given.mode)).flag(15, given.recursive);
    const reply = await this.#client.call({ operation: "fs.mkdir", syscall: "mkdir", path, fields }, given);
    const first = reply.bytes(16);
    if (!given.recursive || first === undefined || first.length === 0) return undefined;
    if (!bytes.subarray(0, first.length).equals(first)) throw violation("fs.mkdir made another directory");
    return first.toString("utf8");
  }

  /** @returns Names; with `recursive` paths below the directory; with `withFileTypes` entries. At most 1 000 000. */
  readdir(
    path: GuestPath,
    options: AsBytes<ReaddirOptions & { readonly withFileTypes?: false | undefined }>,
  ): Promise<Buffer[]>;
  readdir(
    path: GuestPath,
    options: ReaddirOptions & { readonly encoding: "buffer"; readonly withFileTypes: true },
  ): Promise<GuestDirent<Buffer>[]>;
  readdir(path: GuestPath, options: ReaddirOptions & { readonly withFileTypes: true }): Promise<GuestDirent[]>;
  readdir(
    path: GuestPath,
    options?: WithEncoding<ReaddirOptions & { readonly withFileTypes?: false | undefined }>,
  ): Promise<string[]>;
  async readdir(
    path: GuestPath,
    options?: WithEncoding<ReaddirOptions> | "buffer",
  ): Promise<(string | Buffer | GuestDirent<string | Buffer>)[]> {
    const given = checkOptions("readdir", options);
    const encoding = nameEncoding(given.encoding);
    const inForm = (bytes: Buffer) => (encoding === undefined ? bytes : bytes.toString(encoding));
    const entries = await listDirectory(this.#client, path, given);
    if (!given.withFileTypes) return entries.map(({ below, name }) => inForm(joined(below, name)));
    const root = guestPath(path);
    return entries.map(
      ({ below, name, type }) => new GuestDirent<string | Buffer>(inForm(name), inForm(joined(root, below)), type),
    );
  }

  /** What a path leads to. */
  async stat(path: GuestPath, options?: WaitOptions): Promise<GuestStats> {
    checkOptions("stat", options);
    const fields = new FieldWriter().bytes(10, guestPath(path));
    return new GuestStats(await this.#client.call({ operation: "fs.stat", syscall: "stat", path, fields }, options));
  }

  /** What lies at a path: a symbolic link itself, not what it leads to. */
  async lstat(path: GuestPath, options?: WaitOptions): Promise<GuestStats> {
    checkOptions("lstat", options);
    const fields = new FieldWriter().bytes(10, guestPath(path)).flag(12, true);
    return new GuestStats(await this.#client.call({ operation: "fs.stat", syscall: "lstat", path, fields }, options));
  }

  /** Stops where it is when it is aborted or its time is up; with `recursive` there is no limit by default. */
  async rm(path: GuestPath, options?: RmOptions): Promise<void> {
    checkOptions("rm", options);
    const fields = new FieldWriter().bytes(10, guestPath(path)).flag(15, options?.recursive).flag(17, options?.force);
    // As an exchange, which is cancelled when time is up: what is merely forgotten would go on removing.
    const deadline = Deadline.from(options, options?.recursive ? Number.POSITIVE_INFINITY : SMALL_TIMEOUT_MS);
    await this.#client.receive({ operation: "fs.rm", syscall: "rm", path, fields, onData: noData }, deadline);
  }

  /** Replaces what is at the new path. */
  async rename(oldPath: GuestPath, newPath: GuestPath, options?: WaitOptions): Promise<void> {
    checkOptions("rename", options);
    const fields = new FieldWriter().bytes(10, guestPath(oldPath, "oldPath")).bytes(11, guestPath(newPath, "newPath"));
    const call = { operation: "fs.rename", syscall: "rename", path: oldPath, dest: newPath, fields };
    await this.#client.call(call, options);
  }

  /** @param mode A number, or octal digits, up to 0o7777. */
  async chmod(path: GuestPath, mode: FileMode, options?: WaitOptions): Promise<void> {
    checkOptions("chmod", options);
    const fields = new FieldWriter().bytes(10, guestPath(path)).u32(14, parseMode(mode ?? Number.NaN));
    await this.#client.call({ operation: "fs.chmod", syscall: "chmod", path, fields }, options);
  }

  /** Makes a symbolic link at `path`. @param target What it holds; it need not be absolute, nor be there. */
  async symlink(target: GuestPath, path: GuestPath, options?: WaitOptions): Promise<void> {
    checkOptions("symlink", options);
    const fields = new FieldWriter().bytes(10, linkTarget(target)).bytes(11, guestPath(path));
    await this.#client.call({ operation: "fs.symlink", syscall: "symlink", path: target, dest: path, fields }, options);
  }

  /** @returns What a symbolic link holds. */
  readlink(path: GuestPath, options: AsBytes<ReadlinkOptions>): Promise<Buffer>;
  readlink(path: GuestPath, options?: WithEncoding<WaitOptions & EncodingOptions>): Promise<string>;
  async readlink(path: GuestPath, options?: WithEncoding<ReadlinkOptions> | "buffer"): Promise<string | Buffer> {
    const given = checkOptions("readlink", options);
    const encoding = nameEncoding(given.encoding);
    const fields = new FieldWriter().bytes(10, guestPath(path));
    const reply = await this.#client.call({ operation: "fs.readlink", syscall: "readlink", path, fields }, given);
    const target = reply.bytes(16);
    const isTarget = target !== undefined && target.length > 0 && target.length <= PATH_LIMIT_BYTES;
    if (!isTarget || target.includes(0)) throw violation("fs.readlink with a target that no link can have");
    return encoding === undefined ? Buffer.from(target) : target.toString(encoding);
  }

  /** Resolves when root may do all that is asked. @param mode `constants` of `node:fs`. Default `F_OK`. */
  async access(path: GuestPath, mode = 0, options?: WaitOptions): Promise<void> {
    checkOptions("access", options);
    if (!Number.isInteger(mode) || mode < 0 || mode > ACCESS_LIMIT) {
      throw invalidConfig({ field: "mode", value: mode, expected: "R_OK, W_OK and X_OK of node:fs, or F_OK" });
    }
    const fields = new FieldWriter().bytes(10, guestPath(path)).u32(18, mode);
    await this.#client.call({ operation: "fs.access", syscall: "access", path, fields }, options);
  }

  /** @param atime Seconds since 1970 or a `Date`, as `mtime`. */
  async utimes(path: GuestPath, atime: FileTime, mtime: FileTime, options?: WaitOptions): Promise<void> {
    checkOptions("utimes", options);
    const fields = new FieldWriter()
      .bytes(10, guestPath(path))
      .u64(27, fileTime("atime", atime))
      .u64(22, fileTime("mtime", mtime));
    await this.#client.call({ operation: "fs.utimes", syscall: "utime", path, fields }, options);
  }

  /** A `Readable` of the content. Reading begins at once; `destroy()` ends it in the guest too. */
  createReadStream(path: GuestPath, options?: WithEncoding<ReadStreamOptions>): GuestReadStream {
    return new GuestReadStream(this.#client, path, checkOptions("createReadStream", options));
  }

  /** A `Writable` into a file, which is opened at once. `destroy()` ends it in the guest too, and leaves a part of it. */
  createWriteStream(path: GuestPath, options?: WithEncoding<WriteStreamOptions>): GuestWriteStream {
    return new GuestWriteStream(this.#client, path, checkOptions("createWriteStream", options));
  }
}
