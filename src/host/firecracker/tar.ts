// Reads a tar archive (POSIX ustar, as Python's tarfile writes it) that is in memory. It knows regular files, and refuses
// an archive with anything else in it: no link, device or name of an archive ever reaches the file system.

import { installError } from "./install-error.js";

/** Size of headers, and what contents are padded to, in bytes (POSIX pax, "ustar Interchange Format"). */
const BLOCK_BYTES = 512;
/** Most entries of an archive; a release has some 30, with their extended headers. */
const ENTRIES_LIMIT = 1_000;
/** Largest extended header, in bytes; those of a release hold a time. */
const EXTENDED_HEADER_LIMIT_BYTES = 16 * 1024;
/** Records of an extended header that change what an entry is. No release has a name or a size that needs them. */
const REFUSED_RECORD = /^(path|linkpath|size|GNU\.sparse\..*)$/;

/** A regular file of an archive. */
export interface TarFile {
  readonly name: string;
  /** A part of the archive's own memory. */
  readonly content: Buffer;
}

/**
 * The regular files of an archive, in its order.
 *
 * @throws {TRANSFER_FAILED} when anything in it is not as it should be.
 */
export function readTar(archive: Buffer): readonly TarFile[] {
  const files: TarFile[] = [];
  let offset = 0;
  const take = (sizeBytes: number): Buffer => {
    const piece = archive.subarray(offset, offset + sizeBytes);
    if (piece.length < sizeBytes) throw refused("it ends early");
    offset += sizeBytes;
    return piece;
  };
  for (let count = 0; count < ENTRIES_LIMIT; count++) {
    const block = take(BLOCK_BYTES);
    if (block.every((byte) => byte === 0)) return files;
    const { name, sizeBytes, type } = parseHeader(block);
    const content = take(Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES).subarray(0, sizeBytes);
    if (type === "file") files.push({ name, content });
    if (type === "extended") checkRecords(content);
  }
  throw refused(`it has more than ${ENTRIES_LIMIT} entries`);
}

/** What an archive says of its next entry. */
interface TarHeader {
  readonly name: string;
  readonly sizeBytes: number;
  readonly type: "file" | "directory" | "extended";
}

const TYPES: Readonly<Record<string, TarHeader["type"]>> = {
  "0": "file",
  "\0": "file",
  "5": "directory",
  x: "extended",
  g: "extended",
};

/** Fields of a header: offset and length in bytes (POSIX pax, "ustar Header Block"). */
const FIELDS = {
  name: [0, 100],
  size: [124, 12],
  checksum: [148, 8],
  type: [156, 1],
  magic: [257, 5],
  prefix: [345, 155],
} as const;

function parseHeader(block: Buffer): TarHeader {
  if (text(block, "magic") !== "ustar") throw refused("it is not a ustar archive");
  if (octal(block, "checksum") !== checksum(block)) throw refused("the checksum of a header is wrong");
  const prefix = text(block, "prefix");
  const name = prefix === "" ? text(block, "name") : `${prefix}/${text(block, "name")}`;
  const flag = block.toString("latin1", FIELDS.type[0], FIELDS.type[0] + 1);
  const type = TYPES[flag];
  if (type === undefined) throw refused(`"${name}" is of type "${flag}", and only regular files are read`);
  if (name.startsWith("/") || name.split("/").includes("..")) throw refused(`"${name}" leads out of the archive`);
  return { name, sizeBytes: octal(block, "size"), type };
}

function text(block: Buffer, field: keyof typeof FIELDS): string {
  const [offset, length] = FIELDS[field];
  const bytes = block.subarray(offset, offset + length);
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end === -1 ? length : end);
}

/** A number in octal digits; the binary form for larger ones is not read. */
function octal(block: Buffer, field: "size" | "checksum"): number {
  const digits = text(block, field).trim();
  if (!/^[0-7]{1,12}$/.test(digits)) throw refused(`the ${field} in a header is no octal number`);
  return Number.parseInt(digits, 8);
}

/** Sum of a header's bytes, with blanks where the sum itself stands. */
function checksum(block: Buffer): number {
  const [offset, length] = FIELDS.checksum;
  return block.reduce((sum, byte, i) => sum + (i >= offset && i < offset + length ? 0x20 : byte), 0);
}

/** Extended headers are let through as far as they only hold times, owners and the like. */
function checkRecords(content: Buffer): void {
  if (content.length > EXTENDED_HEADER_LIMIT_BYTES) throw refused("an extended header is too large");
  for (let rest = content; rest.length > 0; ) {
    // "<length> <key>=<value>\n", where the length counts the whole record.
    const match = /^(\d{1,5}) ([^=\n]+)=/.exec(rest.toString("latin1"));
    const length = Number(match?.[1]);
    const isWhole = match !== null && length > match[0].length && rest[length - 1] === 0x0a;
    if (!isWhole) throw refused("an extended header is broken");
    if (REFUSED_RECORD.test(match[2] ?? "")) throw refused(`an extended header sets "${match[2]}"`);
    rest = rest.subarray(length);
  }
}

function refused(why: string): Error {
  return installError(`Cannot unpack the archive of Firecracker: ${why}`);
}
