// Takes the two programs out of a release's archive. Nothing else of it is written, and no name of it becomes a path.

import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { installError } from "./install-error.js";
import { readTar, type TarFile } from "./tar.js";
import type { FirecrackerProgramName } from "./version.js";

/** Largest archive after decompression, in bytes; that of v1.16.1 is packed 7.5 MB. */
const UNPACKED_LIMIT_BYTES = 256 * 1024 * 1024;
/** Mode of the programs, whatever the umask and the archive say. */
const PROGRAM_MODE = 0o755;

/**
 * Writes the programs into `directory`, under their plain names, forced to the disk.
 *
 * @param archive A gzip-compressed tar archive, checked against its sha256.
 * @param entries Where each program is in the archive.
 * @throws {TRANSFER_FAILED} when the archive is broken, or a program is missing or there twice.
 */
export async function unpackPrograms(
  archive: Buffer,
  directory: string,
  entries: Readonly<Record<FirecrackerProgramName, string>>,
): Promise<void> {
  const files = readTar(await decompress(archive));
  const wanted = Object.entries(entries).map(([name, entry]) => ({ name, content: contentOf(files, entry) }));
  for (const { name, content } of wanted) await writeProgram(join(directory, name), content);
}

async function decompress(archive: Buffer): Promise<Buffer> {
  try {
    return await promisify(gunzip)(archive, { maxOutputLength: UNPACKED_LIMIT_BYTES });
  } catch (error) {
    const isTooLarge = (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    const why = isTooLarge ? `it holds more than ${UNPACKED_LIMIT_BYTES} bytes` : `it is no gzip file (${error})`;
    throw installError(`Cannot unpack the archive of Firecracker: ${why}`, { cause: error });
  }
}

function contentOf(files: readonly TarFile[], entry: string): Buffer {
  const [file, another] = files.filter(({ name }) => name === entry);
  if (file !== undefined && another === undefined) return file.content;
  const why = file === undefined ? `"${entry}" is not in it` : `"${entry}" is in it twice`;
  throw installError(`Cannot unpack the archive of Firecracker: ${why}`);
}

async function writeProgram(path: string, content: Buffer): Promise<void> {
  const file: FileHandle = await open(path, "wx", PROGRAM_MODE);
  try {
    await file.writeFile(content);
    await file.chmod(PROGRAM_MODE);
    await file.sync();
  } finally {
    await file.close();
  }
}
