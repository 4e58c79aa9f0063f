// A real guest on the user network, in network namespaces of its own: it reaches the outside, by address and by name,
// and nothing of the host, whatever its root does.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Talker } from "../fixtures/talker.js";
import { contacts, makeNamespaces, type Namespaces } from "../support/namespaces.js";
import { Program } from "../support/program.js";
import { testState } from "../support/state.js";

const isRoot = process.platform === "linux" && process.getuid?.() === 0;
if (!isRoot)
  console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: network namespaces need root on Linux`);

const state = testState();
/** On the host's loopback; on all its addresses. */
const [LOOPBACK_PORT, ANY_PORT] = [8_001, 8_002];
/** What the resolver answers for every name, and another address out there. */
const [NAMED, OUTSIDE] = ["192.0.2.53", "203.0.113.7"];
const KNOCK = readFileSync(join(import.meta.dirname, "../fixtures/knock.py"), "utf8");

/** The guests' network: gateway, DNS, broadcast, and the address of a guest that is not there. */
const [GATEWAY, DNS, BROADCAST, NEIGHBOUR] = ["10.187.0.2", "10.187.0.3", "10.187.63.255", "10.187.1.1"];
/** Everything that might mean the host; the guest's own address comes with it. */
const HOST_ADDRESSES = [
  ...["127.0.0.1", "127.0.0.53", "127.1.2.3", "0.0.0.0", "0.0.0.1"],
  ...[GATEWAY, DNS, BROADCAST, NEIGHBOUR, "10.77.0.2", "198.51.100.2"],
  ...["169.254.1.1", "169.254.169.254", "255.255.255.255"],
];

describe.skipIf(!isRoot)('network "user"', () => {
  let namespaces: Namespaces;
  let host: Talker;
  let outside: Talker;
  let program: Program;
  let vmId: string;

  beforeAll(async () => {
    namespaces = makeNamespaces("nameserver 127.0.0.53\nsearch example.test\n", [NAMED, OUTSIDE]);
    const both = (address: string, port: number, name: string) =>
      (["tcp", "udp"] as const).map((protocol) => ({ protocol, address, port, name }));
    host = await namespaces.serve("host", [
      ...both("127.0.0.1", LOOPBACK_PORT, "loopback"),
      ...both("0.0.0.0", ANY_PORT, "any"),
      { protocol: "dns", address: "127.0.0.53", port: 53, name: "resolver" },
    ]);
    outside = await namespaces.serve("outside", [...both(OUTSIDE, 80, "outside"), ...both(NAMED, 80, "named")]);
    program = await Program.start({ wrap: namespaces.onHost });
    vmId = await program.call("boot", state.config({ network: "user" }));
  });

  afterAll(async () => {
    if (vmId !== undefined) await program.call("delete", vmId);
    await program?.end();
    await namespaces?.[Symbol.asyncDispose]();
  });

  /** What a TCP service sends back. */
  async function ask(name: string): Promise<string> {
    const code = [
      "import socket, sys",
      "with socket.create_connection((sys.argv[1], 80), timeout=10) as c:",
      "    c.sendall(b'hi\\n'); print(c.makefile().read(), end='')",
    ].join("\n");
    return (await program.call("exec", vmId, ["python3", "-c", code, name], { check: true })).output;
  }

  /** The guest's own address, as the guest sees it. */
  async function addressOf(id: string): Promise<string> {
    const list = ["ip", "-4", "-o", "address", "show", "scope", "global"];
    const { stdout } = await program.call("exec", id, list, { check: true });
    const [, address, prefix] = /inet (\S+)\/(\d+)/.exec(stdout) ?? [];
    expect(prefix).toBe("18");
    expect(address).toMatch(/^10\.187\./);
    return address ?? "";
  }

  it("reaches the outside by address and by name", async () => {
    expect(await ask(OUTSIDE)).toBe("hello from outside");
    expect(await ask("anything.example.test")).toBe("hello from named");
    expect(await ask("short")).toBe("hello from named");
    const udp =
      "import socket; s=socket.socket(type=2); s.settimeout(10); s.sendto(b'hi',('203.0.113.7',80)); print(s.recv(99))";
    expect((await program.call("exec", vmId, ["python3", "-c", udp])).output).toBe("b'outside:hi'");
    expect(new Set(contacts(outside).map((line) => line["from"]))).toEqual(new Set(["10.77.0.2"]));
    // For these names the resolver on the host's loopback was asked, by nobody but the host itself.
    expect(contacts(host).every((line) => line["protocol"] === "dns")).toBe(true);
  });

  it("reaches nothing of the host by any address, route or crafted frame", async () => {
    const before = contacts(host).length;
    const own = await addressOf(vmId);
    const options = JSON.stringify({
      addresses: [...HOST_ADDRESSES, own],
      sources: [own, "127.0.0.1", "0.0.0.0", "10.77.0.2", GATEWAY, NEIGHBOUR, "169.254.1.1"],
      ports: [LOOPBACK_PORT, ANY_PORT],
    });
    const result = await program.call("exec", vmId, ["python3", "-", options], { stdin: KNOCK, check: true });
    const { answers, sent, route } = JSON.parse(result.stdout) as { answers: string[]; sent: number; route: string };
    expect(answers).toEqual([]);
    // The attempt was a real one.
    expect(sent).toBeGreaterThan(500);
    expect(route).toMatch(/^127\.0\.0\.1 via 10\.187\.0\.2 dev (?!lo)/);
    expect(contacts(host).slice(before)).toEqual([]);
    expect(await ask(OUTSIDE)).toBe("hello from outside");
  });
});
