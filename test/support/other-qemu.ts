// A QEMU in front of the real one on PATH: a script that may say it is another, or die for some of its machines.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

/** Such a QEMU; it is gone at the end of the scope. */
export interface OtherQemu extends Disposable {
  /** For the environment of a program that is to use it. */
  readonly env: Readonly<Record<string, string>>;
  /** Where the script keeps files of its own. */
  readonly directory: string;
}

/** @param script Lines of shell that run before the real QEMU does; `$directory` is a place for files. */
export function otherQemu(script: string): OtherQemu {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-qemu-"));
  const real = execFileSync("sh", ["-c", "command -v qemu-system-x86_64"], { encoding: "utf8" }).trim();
  const text = `#!/bin/bash\ndirectory=${directory}\n${script}\nexec ${real} "$@"\n`;
  writeFileSync(join(directory, basename(real)), text, { mode: 0o755 });
  return {
    directory,
    env: { PATH: `${directory}:${process.env["PATH"]}` },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** One of another version. */
export function newerQemu(): OtherQemu {
  return otherQemu('[ "$1" = --version ] && { echo "QEMU emulator version 99.0.0"; exit 0; }');
}
