// Finds kernel modules and what they depend on in an unpacked kernel package, which has no modules.dep:
// modules.order says where each is, and each says itself what it needs.

import { access, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { COMPRESSIONS, decompressFile } from "./decompress.js";

/** One module, ready to be loaded. */
export interface KernelModule {
  readonly name: string;
  readonly data: Buffer;
}

/**
 * @param modulesDir `lib/modules/RELEASE` of the package.
 * @param names Modules wanted; those built into the kernel are left out.
 * @returns The modules, each after all that it depends on.
 * @throws {IMAGE_FAILED} when the kernel has no such module.
 */
export async function loadModules(
  modulesDir: string,
  names: readonly string[],
  deadline: Deadline,
): Promise<readonly KernelModule[]> {
  const [paths, builtin] = await Promise.all([
    readModuleList(join(modulesDir, "modules.order")),
    readModuleList(join(modulesDir, "modules.builtin")),
  ]);
  const loaded = new Map<string, KernelModule>();
  const visited = new Set<string>();

  const load = async (name: string): Promise<void> => {
    if (visited.has(name) || builtin.has(name)) return;
    visited.add(name);
    const path = paths.get(name);
    if (path === undefined) {
      throw new SmolVMError("IMAGE_FAILED", `Cannot find module "${name}" in the kernel package`, {
        details: { module: name, modulesDir },
      });
    }
    const data = await readModule(join(modulesDir, path), deadline);
    for (const dependency of dependenciesOf(data)) await load(dependency);
    loaded.set(name, { name, data });
  };
  for (const name of names) await load(name);
  return [...loaded.values()];
}

/** Module name to path, from a file of lines such as `kernel/drivers/net/virtio_net.ko`. */
async function readModuleList(path: string): Promise<ReadonlyMap<string, string>> {
  const lines = (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  return new Map(lines.map((line) => [moduleName(basename(line, ".ko")), line]));
}

async function readModule(path: string, deadline: Deadline): Promise<Buffer> {
  for (const { suffix } of COMPRESSIONS) {
    const isPacked = await access(path + suffix).then(
      () => true,
      () => false,
    );
    if (isPacked) return readFile(await decompressFile(path + suffix, deadline));
  }
  return readFile(path);
}

/** The `depends=` line of the `.modinfo` section, whose lines end in NUL. */
function dependenciesOf(module: Buffer): readonly string[] {
  const key = "\0depends=";
  const at = module.indexOf(key, 0, "latin1");
  if (at === -1) return [];
  const text = module.toString("latin1", at + key.length, module.indexOf(0, at + key.length));
  return text
    .split(",")
    .filter((name) => name !== "")
    .map(moduleName);
}

/** The kernel takes dashes and underscores in module names for the same. */
function moduleName(text: string): string {
  return text.replaceAll("-", "_");
}
