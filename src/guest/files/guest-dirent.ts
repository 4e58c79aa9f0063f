// An entry of a directory of the guest, in the shape of Node.js's `Dirent`.

import { FileKind } from "./dirent-type.js";

export class GuestDirent<Name extends string | Buffer = string> extends FileKind {
  readonly name: Name;
  /** The directory that it is in. */
  readonly parentPath: Name;
  protected readonly type: number;

  /** @param type Its `DT_*`. */
  constructor(name: Name, parentPath: Name, type: number) {
    super();
    this.name = name;
    this.parentPath = parentPath;
    this.type = type;
    // Ours alone: it is not part of what `Dirent` shows.
    Object.defineProperty(this, "type", { enumerable: false });
  }

  /** Same as {@link parentPath}, as in Node.js 20. */
  get path(): Name {
    return this.parentPath;
  }
}
