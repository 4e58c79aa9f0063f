// Whole contents of files: reading them into memory and writing them.

import { Deadline } from "../../base/deadline.js";
import { GuestFileError } from "../../errors/guest-file-error.js";
import { invalidConfig } from "../../errors/invalid-config.js";
import { FieldWriter } from "../fields.js";
import { violation } from "../violation.js";
import { ByteCollector } from "./byte-collector.js";
import { checkContent, type FileContent, feed } from "./feed.js";
import type { FileClient } from "./file-client.js";
import { fileFailure } from "./file-failure.js";
import type { ReadFileOptions, WriteFileOptions } from "./file-options.js";
import { checkEncoding, checkPosition, flagBits, parseMode } from "./file-options.js";
import { type GuestPath, guestPath, shown } from "./guest-path.js";

/** Longest content that `readFile` reads unless told otherwise, in bytes. */
const READ_LIMIT_BYTES = 256 * 1024 * 1024;

/** The content as bytes; as `readFile` of {@link GuestFiles} but for the encoding. */
export async function readContent(client: FileClient, path: GuestPath, options: ReadFileOptions): Promise<Buffer> {
  const limitBytes = checkLimit(options.maxBytes);
  const deadline = Deadline.from(options, Number.POSITIVE_INFINITY);
  // One more than is wanted, to see that there is more.
  const askedBytes = limitBytes + 1;
  const content = new ByteCollector(askedBytes);
  const onData = (data: Buffer) => {
    if (content.sizeBytes + data.length > askedBytes) throw violation(`more than the ${askedBytes} bytes asked for`);
    content.push(data);
  };
  const fields = new FieldWriter().bytes(10, guestPath(path)).u64(33, BigInt(askedBytes));
  await client.receive({ operation: "fs.read", syscall: "read", path, fields, onData }, deadline);
  if (content.sizeBytes > limitBytes) {
    const more = `it has more than maxBytes, ${limitBytes} bytes`;
    throw new GuestFileError("EFBIG", { syscall: "read", path: shown(path), more });
  }
  return content.finish();
}

/** As `writeFile` of {@link GuestFiles}. */
export async function writeContent(
  client: FileClient,
  path: GuestPath,
  content: FileContent,
  options: WriteFileOptions,
): Promise<void> {
  checkContent(content);
  const encoding = checkEncoding(options.encoding);
  const fields = writeFields(path, { ...options, flags: flagBits(options.flag, "flag") });
  const deadline = Deadline.from(options, Number.POSITIVE_INFINITY);
  const operation = { operation: "fs.write", syscall: "open", path, fields };
  const exchange = await client.open(operation, deadline);
  const sentBytes = await feed(exchange, content, encoding).catch(async (error: unknown) => {
    exchange.cancel();
    await exchange.reply.catch(() => {}); // The guest has let go of the file then.
    throw error;
  });
  try {
    checkWritten((await exchange.reply).u64(21), sentBytes);
  } catch (error) {
    throw fileFailure(error, operation);
  }
}

/** Fields of `fs.write`. @throws {INVALID_CONFIG} */
export function writeFields(
  path: GuestPath,
  options: { readonly mode?: WriteFileOptions["mode"]; readonly flags: number; readonly start?: number | undefined },
): FieldWriter {
  const start = checkPosition("start", options.start);
  return new FieldWriter()
    .bytes(10, guestPath(path))
    .u32(14, parseMode(options.mode))
    .u64(19, start === undefined ? undefined : BigInt(start))
    .u32(34, options.flags);
}

/** @throws {PROTOCOL_ERROR} when the guest says that it wrote anything else than what it was sent. */
export function checkWritten(writtenBytes: bigint | undefined, sentBytes: number): void {
  if (writtenBytes === BigInt(sentBytes)) return;
  throw violation(`it wrote ${writtenBytes ?? "an unknown number of"} of ${sentBytes} bytes and calls that success`);
}

function checkLimit(maxBytes: number | undefined): number {
  const limitBytes = checkPosition("maxBytes", maxBytes) ?? READ_LIMIT_BYTES;
  if (limitBytes <= READ_LIMIT_MAX_BYTES) return limitBytes;
  throw invalidConfig({ field: "maxBytes", value: maxBytes, expected: `at most ${READ_LIMIT_MAX_BYTES}` });
}

/** Most that can be asked for, in bytes: a buffer of Node.js has its own limit beyond that. */
const READ_LIMIT_MAX_BYTES = 2 ** 32 - 1;
