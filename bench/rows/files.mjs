// Files in and out of a VM, over the agent and by `scp` and `sftp`. Two VMs of the same configuration, for one with an SSH
// server is reached over SSH by the library too; the other one is idle meanwhile.

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { SmolVM } from "../../dist/index.js";
import { timed } from "../stats.mjs";

const run = promisify(execFile);
const LARGE_BYTES = 100 * 1024 * 1024;
const TREE_FILES = 2_000;
const TREE_FILE_BYTES = 4096;
/** Each round is eight transfers of seconds. */
const ROUNDS = 5;

const WAYS = ["agent", "scp", "sftp"];
const NAMES = WAYS.flatMap((way) => [
  `upload a file of 100 MiB: ${way}`,
  `download a file of 100 MiB: ${way}`,
  `upload ${TREE_FILES} files of 4 KiB: ${way}`,
  `download ${TREE_FILES} files of 4 KiB: ${way}`,
]);

export const FILES = [{ names: NAMES, measure: measureFiles }];

async function measureFiles({ stateDir, samples }) {
  const taken = Object.fromEntries(NAMES.map((name) => [name, []]));
  const work = mkdtempSync(join(tmpdir(), "smolvm-bench-files-"));
  const vm = await SmolVM.create({ stateDir });
  const sshVm = await SmolVM.create({ stateDir, commChannel: "ssh" });
  try {
    const sources = makeSources(work);
    const access = await sshVm.ssh();
    const over = {
      agent: overAgent(vm),
      scp: overScp(access),
      sftp: overSftp(access),
    };
    for (let round = 0; round < Math.min(samples, ROUNDS); round++) {
      // In turn, so that what else the machine does meets all of them.
      for (const way of WAYS) {
        const { upload, download } = over[way];
        const [large, tree] = [`/root/large-${way}-${round}`, `/root/tree-${way}-${round}`];
        const times = [
          await timed(() => upload(sources.large, large)),
          await timed(() => download(large, join(work, `large-${way}-${round}`))),
          await timed(() => upload(sources.tree, tree)),
          await timed(() => download(tree, join(work, `tree-${way}-${round}`))),
        ];
        const names = NAMES.filter((name) => name.endsWith(`: ${way}`));
        for (const [index, [, ms]] of times.entries()) taken[names[index]].push(ms);
        await (way === "agent" ? vm : sshVm).exec(["rm", "-rf", large, tree], { check: true });
      }
    }
  } finally {
    await Promise.all([vm.delete(), sshVm.delete()]);
    rmSync(work, { recursive: true, force: true });
  }
  return taken;
}

/** Content that no channel can make smaller. */
function makeSources(work) {
  const large = join(work, "large");
  const tree = join(work, "tree");
  const noise = Buffer.alloc(LARGE_BYTES);
  for (let at = 0, seed = 1; at < LARGE_BYTES; at += 4) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0; // Numerical Recipes' generator.
    noise.writeUInt32LE(seed, at);
  }
  writeFileSync(large, noise);
  for (let index = 0; index < TREE_FILES; index++) {
    const directory = join(tree, `d${Math.floor(index / 100)}`);
    mkdirSync(directory, { recursive: true });
    const from = index * TREE_FILE_BYTES;
    writeFileSync(join(directory, `f${index}`), noise.subarray(from, from + TREE_FILE_BYTES));
  }
  return { large, tree };
}

function overAgent(vm) {
  return {
    upload: (from, to) => vm.upload(from, to),
    download: (from, to) => vm.download(from, to),
  };
}

function overScp({ host, options }) {
  const scp = (from, to) => run("scp", [...options, "-q", "-r", from, to]);
  return {
    upload: (from, to) => scp(from, `${host}:${to}`),
    download: (from, to) => scp(`${host}:${from}`, to),
  };
}

function overSftp({ host, options }) {
  const sftp = (line) => {
    const running = run("sftp", [...options, "-q", "-b", "-", host]);
    running.child.stdin.end(`${line}\n`);
    return running;
  };
  return {
    upload: (from, to) => sftp(`put -r ${from} ${to}`),
    download: (from, to) => sftp(`get -r ${from} ${to}`),
  };
}
