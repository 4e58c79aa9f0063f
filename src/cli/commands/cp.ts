// `smolvm cp`: files and directories between this host and a VM.

import { lstat, readdir, stat } from "node:fs/promises";
import { basename, join, posix, resolve } from "node:path";
import { invalidConfig } from "../../errors/invalid-config.js";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import type { SmolVM, TransferProgress, TransferResult } from "../../index.js";
import type { CommandContext, CommandModule } from "../command.js";
import { size } from "../output/quantities.js";

/** One end of a copy. */
interface Place {
  /** `undefined`: this host. */
  readonly vmId: string | undefined;
  readonly path: string;
}

/** An id of a VM, a colon, a path. A host path that looks like that can be written with `./` before it. */
const IN_VM = /^([a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?):(.*)$/s;

export const command: CommandModule = {
  configure(command) {
    command
      .argument("<src>", "a path of this host, or VM:/path")
      .argument("<dst>", "the other of the two; an existing directory gets the copy inside")
      .usage("<src> <dst>");
  },

  async run(context, { args: [from = "", to = ""] }) {
    const source = placeOf("src", from);
    const target = placeOf("dst", to);
    const vmId = source.vmId ?? target.vmId;
    if (vmId === undefined || (source.vmId !== undefined && target.vmId !== undefined)) {
      throw invalidConfig({ field: "dst", value: to, expected: "exactly one of src and dst in a VM: NAME:/path" });
    }
    const { SmolVM } = await context.host.loadSdk();
    const vm = await SmolVM.fromId(vmId);
    const { signal } = context;
    const copy =
      source.vmId === undefined
        ? async () => {
            const onProgress = reporter(context, from, await hostBytes(context, source.path));
            return vm.upload(resolve(source.path), await insideGuest(vm, target.path, source.path), {
              signal,
              onProgress,
            });
          }
        : async () => {
            const onProgress = reporter(context, from, await guestBytes(vm, source.path));
            return vm.download(source.path, await insideHost(target.path, source.path), { signal, onProgress });
          };
    const result = await copy();
    return { data: { source: from, target: to, ...result }, text: leftOut(result) };
  },
};

function placeOf(field: string, text: string): Place {
  const match = IN_VM.exec(text);
  const [, vmId, path = text] = match ?? [];
  if (path === "" || (vmId !== undefined && !path.startsWith("/"))) {
    throw invalidConfig({ field, value: text, expected: "a path of this host, or NAME:/absolute/path" });
  }
  return { vmId, path };
}

/** Where a copy named `path` really goes. */
async function insideGuest(vm: SmolVM, path: string, source: string): Promise<string> {
  const isDirectory = await vm.fs.stat(path).then(
    (stats) => stats.isDirectory(),
    (error: unknown) => {
      if (isSmolVMError(error, "ENOENT") || isSmolVMError(error, "ENOTDIR")) return false;
      throw error;
    },
  );
  return isDirectory || path.endsWith("/") ? posix.join(path, basename(resolve(source))) : path;
}

async function insideHost(path: string, source: string): Promise<string> {
  const isDirectory = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false, // The copy itself says what is wrong with it.
  );
  return resolve(isDirectory || path.endsWith("/") ? `${path}/${posix.basename(source)}` : path);
}

/** Shows how far it has come. @param totalBytes As far as it is known. */
function reporter(
  { onProgress }: CommandContext,
  source: string,
  totalBytes: number | undefined,
): (progress: TransferProgress) => void {
  return ({ bytes, entries }) => {
    if (totalBytes === undefined || totalBytes === 0) {
      onProgress({ step: "Copying", detail: `${source}, ${size(bytes)} in ${entries} files` });
    } else {
      const detail = `${source}, ${size(bytes)} of ${size(totalBytes)}`;
      onProgress({ step: "Copying", detail, fraction: Math.min(1, bytes / totalBytes) });
    }
  };
}

/** What is to be copied from this host, in bytes; only counted where somebody sees it. */
async function hostBytes({ host, isJson }: CommandContext, path: string): Promise<number | undefined> {
  if (isJson || host.stderr.isTTY !== true) return undefined;
  try {
    const stats = await stat(path);
    if (!stats.isDirectory()) return stats.size;
    let total = 0;
    for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) total += (await lstat(join(entry.parentPath, entry.name))).size;
    }
    return total;
  } catch {
    return undefined; // The copy itself says what is wrong.
  }
}

/** The same of a VM; only a file's size is known beforehand. */
async function guestBytes(vm: SmolVM, path: string): Promise<number | undefined> {
  return vm.fs.stat(path).then(
    (stats) => (stats.isFile() ? stats.size : undefined),
    () => undefined,
  );
}

function leftOut({ skipped }: TransferResult): string | undefined {
  if (skipped.length === 0) return undefined;
  return skipped.map(({ path, reason }) => `left out: ${path} (${reason})`).join("\n");
}
