// Takes kernel and modules out of Debian's kernel package. None of its scripts run.

import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { BuildContext } from "./build-context.js";
import { KERNEL_FILE, MODULES_FILE } from "./cache-layout.js";
import { runHostTool } from "./host-tool.js";
import { loadModules } from "./kernel-modules.js";
import { runMmdebstrap } from "./mmdebstrap.js";
import { modulesArchive } from "./modules-archive.js";
import { unpackKernel } from "./unpack-kernel.js";

const KERNEL_PREFIX = "vmlinuz-";

/**
 * Adds `vmlinux` and `modules.cpio` to the image.
 *
 * @returns The kernel's release, e.g. `"6.12.117+deb13-cloud-amd64"`.
 */
export async function buildKernel(context: BuildContext): Promise<string> {
  const { recipe, architecture, workDir, outDir, deadline } = context;
  const archive = join(workDir, "kernel.tar");
  const packages = [architecture.kernelPackage];
  await runMmdebstrap({ step: "Fetching kernel", variant: "extract", packages, target: archive }, context);
  context.onProgress({ step: "Unpacking kernel" });
  const tree = join(workDir, "kernel");
  await mkdir(tree);
  const extract = ["tar", "--extract", `--file=${archive}`, `--directory=${tree}`, "--no-same-owner", "--wildcards"];
  await runHostTool([...extract, `./boot/${KERNEL_PREFIX}*`, "./usr/lib/modules/*"], deadline);
  await rm(archive);

  const release = await findRelease(join(tree, "boot"));
  const packed = join(tree, "boot", `${KERNEL_PREFIX}${release}`);
  await rename(await unpackKernel(packed, { workDir: tree, deadline }), join(outDir, KERNEL_FILE));
  const modulesDir = join(tree, "usr/lib/modules", release);
  const bootModules = await loadModules(modulesDir, recipe.bootModules, deadline);
  const spareModules = await loadModules(modulesDir, recipe.spareModules, deadline);
  await writeFile(join(outDir, MODULES_FILE), modulesArchive(bootModules, spareModules));
  await rm(tree, { recursive: true });
  return release;
}

async function findRelease(bootDir: string): Promise<string> {
  const [kernel, ...others] = (await readdir(bootDir)).filter((name) => name.startsWith(KERNEL_PREFIX));
  if (kernel === undefined || others.length > 0) {
    throw new SmolVMError("IMAGE_FAILED", `Cannot choose a kernel: the package holds ${others.length + 1} of them`, {
      details: { kernels: [kernel, ...others] },
    });
  }
  return kernel.slice(KERNEL_PREFIX.length);
}
