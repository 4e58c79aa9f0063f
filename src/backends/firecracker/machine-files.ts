// The files of a machine under the names that its VMM knows them by.

import type { MachineSpec } from "../backend.js";
import { NAMES } from "./places.js";

/** A file that the VMM opens. */
export interface MachineFile {
  readonly name: string;
  readonly path: string;
  readonly isWritten: boolean;
}

/** What a machine that boots has, or one from an image, whose kernel is in its memory. */
export function filesOf({ kernelPath, initrdPath, disk, memory }: MachineSpec): readonly MachineFile[] {
  const read = (name: string, path: string) => ({ name, path, isWritten: false });
  const rest =
    memory.from === "image"
      ? [read(NAMES.memory, memory.path), read(NAMES.devices, memory.devicesPath)]
      : bootFilesOf({ kernelPath, initrdPath });
  return [{ name: NAMES.disk, path: disk.path, isWritten: true }, ...rest];
}

export function bootFilesOf(boot: Pick<MachineSpec, "kernelPath" | "initrdPath">): readonly MachineFile[] {
  const { kernelPath, initrdPath } = boot;
  return [
    { name: NAMES.kernel, path: kernelPath, isWritten: false },
    { name: NAMES.initrd, path: initrdPath, isWritten: false },
  ];
}
