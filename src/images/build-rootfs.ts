// Makes the root file system: Debian packages to a tar archive, to a tree, to an ext4 file. Nothing is mounted.

import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BuildContext } from "./build-context.js";
import { isRoot } from "./build-tools.js";
import { ROOTFS_FILE } from "./cache-layout.js";
import { runHostTool } from "./host-tool.js";
import { runMmdebstrap } from "./mmdebstrap.js";

/** What the package installation leaves that no image may carry, as tar(1) patterns. */
const NOT_IN_IMAGE = [
  "./dev/*", // The agent mounts devtmpfs.
  "./etc/apt/apt.conf.d/99mmdebstrap", // Build options: in the guest apt behaves as everywhere.
  "./etc/hostname", // The build host's, as are the next two.
  "./etc/machine-id",
  "./etc/resolv.conf",
  "./etc/ssh/ssh_host_*", // Every VM gets keys of its own.
];

/**
 * Debian's own starts `id` to choose PATH, which doubles the time of every command line under emulation. Here the agent,
 * or sshd, has set PATH for the user already.
 */
const PROFILE = `# Like Debian's, but starts no program: every command line of a login shell reads this first.
export PATH="\${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
if [ -n "\${BASH-}" ] && [ -n "\${PS1-}" ] && [ -f /etc/bash.bashrc ]; then . /etc/bash.bashrc; fi
for script in /etc/profile.d/*.sh; do
  if [ -r "$script" ]; then . "$script"; fi
done
unset script
`;
/** Without Debian's `mesg`: there is nobody to write to this terminal. */
const ROOT_PROFILE = `if [ -n "\${BASH-}" ] && [ -f ~/.bashrc ]; then . ~/.bashrc; fi
`;

/** What is put in its place, by path in the guest. Empty ones the agent fills in. */
const FIXED_FILES: Readonly<Record<string, string>> = {
  "etc/hostname": "smolvm\n",
  "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
  "etc/machine-id": "",
  "etc/profile": PROFILE,
  "etc/resolv.conf": "",
  "root/.profile": ROOT_PROFILE,
};

/** Bytes per inode: 131072 files in 2 GiB, enough for a large `node_modules`. */
const BYTES_PER_INODE = 16_384;
/** Small, because each VM's overlay pays for what the guest writes to it; the default would be 64. */
const JOURNAL_SIZE_MIB = 16;

/** Adds `rootfs.ext4` to the image. */
export async function buildRootfs(context: BuildContext): Promise<void> {
  const archive = join(context.workDir, "rootfs.tar");
  const { packages, leaveOut } = context.recipe;
  const step = "Installing Debian packages";
  await runMmdebstrap({ step, variant: "apt", packages, leaveOut, target: archive }, context);
  context.onProgress({ step: "Making root file system" });
  const tree = join(context.workDir, "rootfs");
  await mkdir(tree, { mode: 0o755 });
  const withOwners = keepOwners(join(context.workDir, "rootfs.owners"));
  const excludes = NOT_IN_IMAGE.map((pattern) => `--exclude=${pattern}`);
  const extract = ["tar", "--extract", `--file=${archive}`, `--directory=${tree}`, "--numeric-owner", "--same-owner"];
  const permissions = ["--same-permissions", "--xattrs", "--xattrs-include=*", "--anchored"];
  await runHostTool([...withOwners.save, ...extract, ...permissions, ...excludes], context.deadline);
  await rm(archive);
  await writeFixedFiles(tree);
  await runHostTool([...withOwners.load, ...mke2fsArgv(tree, context)], context.deadline);
  await rm(tree, { recursive: true });
}

async function writeFixedFiles(tree: string): Promise<void> {
  for (const [path, text] of Object.entries(FIXED_FILES)) {
    await writeFile(join(tree, path), text);
    await chmod(join(tree, path), 0o644); // Whatever the builder's umask is.
  }
}

/**
 * Only root can give files to other users. For everybody else fakeroot(1) remembers whose each file would
 * be, from the extraction to the making of the file system.
 */
function keepOwners(memory: string): { readonly save: string[]; readonly load: string[] } {
  if (isRoot()) return { save: [], load: [] };
  return { save: ["fakeroot", "-s", memory, "--"], load: ["fakeroot", "-i", memory, "--"] };
}

function mke2fsArgv(tree: string, { recipe, outDir }: BuildContext): string[] {
  return [
    "mke2fs",
    ...["-q", "-F", "-t", "ext4", "-b", "4096", "-L", "smolvm-root", "-m", "0"],
    ...["-i", String(BYTES_PER_INODE), "-J", `size=${JOURNAL_SIZE_MIB}`],
    // Finished now, so that the guest kernel has nothing to write in the background.
    ...["-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"],
    ...["-d", tree, join(outDir, ROOTFS_FILE), `${recipe.rootfsSizeMib}M`],
  ];
}
