// Files into a VM and out of it, variables for its commands, and a hook that refuses one.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isSmolVMError, SmolVM } from "smolvm";

const work = await mkdtemp(join(tmpdir(), "smolvm-example-files-"));
await using vm = await SmolVM.create({ memSizeMib: 256, network: "none" });
try {
  await writeFile(join(work, "words.txt"), "one\ntwo\nthree\n");
  const { files } = await vm.upload(work, "/work");
  await vm.env.set({ SORT_ORDER: "-r" });
  await vm.run("sort $SORT_ORDER words.txt > sorted.txt", { cwd: "/work", check: true });
  await vm.download("/work/sorted.txt", join(work, "sorted.txt"));
  console.log(`${files} file up, down came: ${(await readFile(join(work, "sorted.txt"), "utf8")).trim().split("\n")}`);

  await vm.fs.writeFile("/work/note", "written by the host\n");
  console.log(`in the guest: ${(await vm.fs.readdir("/work")).sort()}`);
  await vm.fs.readFile("/work/missing").catch((error: unknown) => {
    if (!isSmolVMError(error, "ENOENT")) throw error;
    console.log("missing: ENOENT");
  });

  vm.use({ beforeRun: ({ line }) => (line?.startsWith("rm ") ? { refuse: "nothing is removed here" } : true) });
  await vm.run("rm -rf /work").catch((error: unknown) => {
    if (!isSmolVMError(error, "COMMAND_REFUSED")) throw error;
    console.log(`refused: ${error.details["reason"]}`);
  });
} finally {
  await rm(work, { recursive: true });
}
