// Release archives for tests, good ones and others: with small shell scripts as programs.

import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { FirecrackerRelease } from "../releases.js";

/** Architecture of the archives; the scripts run on any. */
export const ARCHITECTURE = "x86_64";
export const VERSION = "1.16.1";

const BLOCK_BYTES = 512;

/** An entry as it is written, right or wrong. */
export interface TarEntry {
  readonly name: string;
  readonly content?: string | Buffer;
  /** Default `"0"`, a regular file. */
  readonly type?: string;
  /** What the header says; default the content's size. */
  readonly size?: string;
  readonly linkName?: string;
  readonly magic?: string;
  readonly prefix?: string;
}

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, "0")}\0`;
}

/** One entry's header and content, padded. */
export function tarEntry(entry: TarEntry): Buffer {
  const content = Buffer.from(entry.content ?? "");
  const header = Buffer.alloc(BLOCK_BYTES);
  header.write(entry.name, 0, 100);
  header.write(octal(0o600, 7), 100);
  header.write(entry.size ?? octal(content.length, 11), 124);
  header.write(octal(0, 11), 136);
  header.write(entry.type ?? "0", 156);
  header.write(entry.linkName ?? "", 157, 100);
  header.write(entry.magic ?? "ustar\x0000", 257);
  header.write(entry.prefix ?? "", 345);
  header.write(" ".repeat(8), 148);
  header.write(
    `${octal(
      header.reduce((sum, byte) => sum + byte, 0),
      6,
    )} `,
    148,
  );
  return Buffer.concat([header, content, Buffer.alloc((BLOCK_BYTES - (content.length % BLOCK_BYTES)) % BLOCK_BYTES)]);
}

/** An extended header, as Python's tarfile writes one before each file whose time is no whole second. */
export function extendedHeader(records: Readonly<Record<string, string>>, type = "x"): TarEntry {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    const guess = rest.length + 2;
    return `${String(guess).length === 2 ? guess : guess + 1}${rest}`;
  });
  return { name: "././@PaxHeader", type, content: lines.join("") };
}

export function tar(entries: readonly TarEntry[]): Buffer {
  return Buffer.concat([...entries.map(tarEntry), Buffer.alloc(2 * BLOCK_BYTES)]);
}

/** A program that states a version, and leaves a mark where it is asked to. */
export function script(name: string, version: string, markPath?: string): string {
  const mark = markPath === undefined ? "" : `: > '${markPath}'\n`;
  return `#!/bin/sh\n${mark}echo "${name} v${version}"\necho\necho "exiting"\n`;
}

/** What makes up a release. */
export interface ReleaseParts {
  readonly firecracker?: string;
  readonly jailer?: string;
  /** Beside the two. */
  readonly more?: readonly TarEntry[];
  readonly leaveOut?: "firecracker" | "jailer";
  /** Bytes of a file that cannot be compressed, so that the archive has some length. */
  readonly ballastBytes?: number;
}

/** The entries of a release, in the form and order of a real one. */
export function releaseEntries(parts: ReleaseParts = {}): readonly TarEntry[] {
  const directory = `release-v${VERSION}-${ARCHITECTURE}`;
  const program = (name: "firecracker" | "jailer", content: string): readonly TarEntry[] =>
    parts.leaveOut === name
      ? []
      : [
          extendedHeader({ mtime: "1751450000.1234567" }),
          { name: `${directory}/${name}-v${VERSION}-${ARCHITECTURE}`, content },
        ];
  return [
    { name: `${directory}/LICENSE`, content: "text" },
    { name: `${directory}/firecracker-v${VERSION}-${ARCHITECTURE}.debug`, content: ballast(parts.ballastBytes ?? 0) },
    ...program("firecracker", parts.firecracker ?? script("Firecracker", VERSION)),
    ...program("jailer", parts.jailer ?? script("Jailer", VERSION)),
    ...(parts.more ?? []),
  ];
}

/** The same bytes each time, without a pattern. */
function ballast(sizeBytes: number): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at * 32 < sizeBytes; at++) pieces.push(createHash("sha256").update(String(at)).digest());
  return Buffer.concat(pieces).subarray(0, sizeBytes);
}

export function releaseArchive(parts: ReleaseParts = {}): Buffer {
  return gzipSync(tar(releaseEntries(parts)));
}

/** A table that knows this archive and no other. */
export function releaseOf(archive: Buffer, version = VERSION): FirecrackerRelease {
  return { version, sha256: { [ARCHITECTURE]: createHash("sha256").update(archive).digest("hex") } };
}
