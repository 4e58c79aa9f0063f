// One VM made ready once, then three attempts side by side in copies of it, each on its own; and an undo.

import { SmolVM } from "smolvm";

await using vm = await SmolVM.create({ memSizeMib: 256, network: "none" });
await vm.run("echo 'made ready once' > /root/note", { check: true });
const service = vm.exec(["sleep", "1000"]).catch(() => {}); // Something that runs; it ends with the undo below.
await vm.run("until pgrep -x sleep > /dev/null; do :; done", { timeoutMs: 10_000 });

// The copies go on from here: files and processes are there, what each does is its own.
const children = await vm.fork({ count: 3 });
const lines = await Promise.all(
  children.map(async (child, index) => {
    // One child that could not be started is no reason to give up the others.
    if (!child.ok) return `attempt ${index}: ${child.error.code}: ${child.error.message}`;
    await using copy = child.vm;
    const attempt = `echo 'attempt ${index}' >> /root/note; cat /root/note; echo $(pgrep -xc sleep) sleeping`;
    const { output } = await copy.run(attempt, { check: true });
    return `attempt ${index}: ${output.trim().split("\n").join(", ")}`;
  }),
);
console.log(lines.join("\n"));
console.log(`the first VM: ${(await vm.run("cat /root/note", { check: true })).output}`);

// Undo: the same VM as it was, whatever happened since.
const before = await vm.checkpoint();
await vm.run("rm -rf /usr/bin/python3* /root/note");
await vm.rewind(before);
await service;
console.log(`after the undo: ${(await vm.run("cat /root/note && python3 -c 'print(6 * 7)'", { check: true })).output}`);
