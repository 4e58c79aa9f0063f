// Types of directory entries as Linux counts them (`DT_*` of readdir(3)).

export const DIRENT_TYPE = {
  unknown: 0,
  fifo: 1,
  character: 2,
  directory: 4,
  block: 6,
  file: 8,
  link: 10,
  socket: 12,
} as const;

/** Bits of a mode that hold the file's type, and where they begin (inode(7)); shifted down they are a `DT_*`. */
const TYPE_SHIFT = 12;
const TYPE_BITS = 0o17;

/** The `DT_*` that a mode says. */
export function typeOfMode(mode: number): number {
  return (mode >>> TYPE_SHIFT) & TYPE_BITS;
}

/** Answers what kind of file something is, as `Stats` and `Dirent` of Node.js do. */
export abstract class FileKind {
  /** One of {@link DIRENT_TYPE}, or whatever the guest said. */
  protected abstract get type(): number;

  isFile(): boolean {
    return this.type === DIRENT_TYPE.file;
  }

  isDirectory(): boolean {
    return this.type === DIRENT_TYPE.directory;
  }

  isSymbolicLink(): boolean {
    return this.type === DIRENT_TYPE.link;
  }

  isFIFO(): boolean {
    return this.type === DIRENT_TYPE.fifo;
  }

  isSocket(): boolean {
    return this.type === DIRENT_TYPE.socket;
  }

  isBlockDevice(): boolean {
    return this.type === DIRENT_TYPE.block;
  }

  isCharacterDevice(): boolean {
    return this.type === DIRENT_TYPE.character;
  }
}
