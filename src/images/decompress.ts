// Decompresses one file with the host's tool for its format. Node 20 has neither zstd nor xz.

import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { runHostTool } from "./host-tool.js";

/** How one compressed format is known and undone. */
export interface Compression {
  /** File name ending that its tool expects. */
  readonly suffix: string;
  readonly tool: string;
  /** First bytes, in hexadecimal. */
  readonly magic: string;
}

/** Every tool here takes `-d -q FILE` and writes FILE without its suffix. */
export const COMPRESSIONS: readonly Compression[] = [
  { suffix: ".zst", tool: "zstd", magic: "28b52ffd" },
  { suffix: ".xz", tool: "xz", magic: "fd377a585a00" },
  { suffix: ".gz", tool: "gzip", magic: "1f8b" },
  { suffix: ".bz2", tool: "bzip2", magic: "425a68" },
  { suffix: ".lz4", tool: "lz4", magic: "02214c18" },
  { suffix: ".lzma", tool: "xz", magic: "5d000000" },
  { suffix: ".lzo", tool: "lzop", magic: "894c5a4f" },
];

/**
 * Decompresses beside itself a file whose name ends in one of {@link COMPRESSIONS}' suffixes.
 *
 * @returns The path without the suffix.
 * @throws {HOST_UNSUPPORTED} when the tool is not installed.
 */
export async function decompressFile(path: string, deadline: Deadline): Promise<string> {
  const compression = COMPRESSIONS.find(({ suffix }) => path.endsWith(suffix));
  if (compression === undefined) {
    throw new SmolVMError("INTERNAL", `Cannot decompress "${path}": unknown file name ending`);
  }
  await runHostTool([compression.tool, "-d", "-q", path], deadline);
  return path.slice(0, -compression.suffix.length);
}
