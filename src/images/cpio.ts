// Writes cpio archives in the `newc` form that the kernel unpacks as initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst). Deterministic: no times, all root's.

/** One member of an archive. Parents come before what is in them. */
export type CpioEntry =
  | { readonly type: "directory"; readonly name: string }
  | { readonly type: "file"; readonly name: string; readonly data: Uint8Array; readonly executable?: boolean };

const MODE_DIRECTORY = 0o040755;
const MODE_PROGRAM = 0o100755;
const MODE_FILE = 0o100644;
const TRAILER = "TRAILER!!!";

/** The archive of `entries`; archives may be put one after another. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const members = entries.map((entry, index) =>
    entry.type === "directory"
      ? member({ name: entry.name, inode: index + 1, mode: MODE_DIRECTORY, links: 2 })
      : member({
          name: entry.name,
          inode: index + 1,
          mode: entry.executable === true ? MODE_PROGRAM : MODE_FILE,
          links: 1,
          data: entry.data,
        }),
  );
  return Buffer.concat([...members, member({ name: TRAILER, inode: 0, mode: 0, links: 1 })]);
}

/** `bytes` with zeros up to a multiple of four, which is where the kernel looks for the next archive. */
export function padToFour(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

interface Member {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly data?: Uint8Array;
}

function member({ name, inode, mode, links, data = new Uint8Array() }: Member): Buffer {
  const nameBytes = Buffer.from(`${name}\0`);
  // inode mode uid gid links mtime size, four device numbers, name size, checksum (unused).
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, 0, 0, nameBytes.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  return Buffer.concat([padToFour(Buffer.concat([Buffer.from(header), nameBytes])), padToFour(data)]);
}
