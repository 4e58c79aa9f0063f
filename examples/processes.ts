// Processes as handles: output as it comes, a terminal, and one that outlives whoever started it.

import { SmolVM } from "smolvm";

await using vm = await SmolVM.create({ memSizeMib: 256, network: "none" });

// Leaving the loop kills the process.
for await (const { data } of vm.spawn("while :; do echo tick; sleep 0.1; done")) {
  console.log(`first: ${Buffer.from(data).toString().trim()}`);
  break;
}

const calculator = vm.spawn(["python3", "-c", "for line in iter(input, ''): print(eval(line))"]);
calculator.stdin.write("6 * 7\n");
calculator.stdin.end("\n");
console.log(`calculator: ${(await calculator).output}`);

const { output } = await vm.spawn("tty; stty size", { pty: { cols: 120, rows: 40 } });
console.log(`terminal: ${output.split("\r\n").join(", ")}`);

// Any program that knows the VM can do what follows; ids are in vm.processes.list().
const server = vm.spawn("echo ready; read line; echo got $line", { detached: true });
await server.started;
server.detach();
const view = vm.processes.attach(server.id ?? "");
view.stdin.write("a line\n");
const result = await view;
console.log(`detached: ${result.stdout.trim().split("\n").join(", ")} (exit ${result.exitCode})`);
