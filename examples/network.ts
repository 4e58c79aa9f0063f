// What a guest may reach, what it was refused, and a port of the host that leads to it.

import { SmolVM } from "smolvm";

await using vm = await SmolVM.create({
  memSizeMib: 256,
  network: { mode: "user", egress: { allow: ["api.example.com", "203.0.113.0/24:443"] } },
});

// A refusal comes at once, and says what it is.
const { output } = await vm.run("curl --silent http://evil.example.com/ --resolve evil.example.com:80:192.0.2.1");
console.log(`the guest is told: ${output.split(":")[0]}`);
await vm.run("echo hello | timeout 5 bash -c 'cat > /dev/tcp/192.0.2.1/25'");
for (const { message } of await vm.network.denials()) console.log(message);

// Nothing at all from now on; connections that are open end.
await vm.network.update("off");

// A server on the guest's own loopback. Ports do not depend on what the guest may reach.
const server = vm.spawn(["python3", "-m", "http.server", "8000", "--bind", "127.0.0.1"], {
  cwd: "/etc",
  detached: true,
});
await server.started;
await vm.run("until exec 3<>/dev/tcp/127.0.0.1/8000; do sleep 0.1; done 2>/dev/null");
const port = await vm.expose(8000);
const answer = await fetch(`http://127.0.0.1:${port.hostPort}/hostname`);
console.log(`the guest serves: ${(await answer.text()).trim() === vm.vmId ? "its name" : "something else"}`);
await port.close();
