// Servers in a guest whose ports are forwarded, and who talks to them.

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect } from "vitest";
import type { Vm } from "./smolvm.js";
import { processesAbout, type TestState, withDatabase } from "./state.js";
import { eventually } from "./wait.js";

export const LOOPBACK = "127.0.0.1";
/** Where the guest's servers listen: on its loopback, the second one on all addresses, the last one on IPv6's. */
export const [ECHO, EVERYWHERE, DIGEST, SOURCE, SIX] = [7001, 7002, 7003, 7004, 7005];
const SERVERS = [
  `Echo/127.0.0.1/${ECHO}`,
  `Echo/0.0.0.0/${EVERYWHERE}`,
  `Digest/127.0.0.1/${DIGEST}`,
  `Source/127.0.0.1/${SOURCE}`,
  `Echo/::1/${SIX}`,
].join(" ");

/** Runs the servers in a guest, until it ends. */
export async function serve(vm: Vm): Promise<void> {
  await vm.upload(join(import.meta.dirname, "../fixtures/servers.py"), "/root/servers.py");
  await vm.run(`rm -f /run/servers-ready; setsid python3 /root/servers.py ${SERVERS} > /run/servers.log 2>&1 &`, {
    check: true,
    orphans: "keep",
  });
  await vm.run(
    "for i in $(seq 300); do [ -e /run/servers-ready ] && exit 0; sleep 0.1; done; cat /run/servers.log; exit 1",
    {
      check: true,
    },
  );
}

/** A connection whose greeting has come. */
export async function greeted(port: number, host = LOOPBACK): Promise<Socket> {
  const socket = connect({ port, host, allowHalfOpen: true });
  const [greeting] = (await once(socket, "data")) as [Buffer];
  socket.pause();
  expect(String(greeting)).toBe("hello\n");
  return socket;
}

/** Says something to an echo, ends, and gives all that came after the greeting. */
export async function talk(port: number, words: string | Buffer, host = LOOPBACK): Promise<string> {
  const socket = await greeted(port, host);
  socket.end(words);
  return text(socket);
}

/** Whether an echo answers. */
export const works = (port: number, host = LOOPBACK) =>
  talk(port, "words", host).then((heard) => heard === "wordsbye\n");

/** How a connection ends that comes to nothing. */
export async function refused(port: number, host = LOOPBACK): Promise<string> {
  const socket = connect(port, host);
  const closed = new Promise<string>((done) => {
    socket.on("error", ({ code }: NodeJS.ErrnoException) => done(code ?? ""));
    socket.on("close", () => done("closed"));
    socket.on("data", () => done("data"));
  });
  return closed.finally(() => socket.destroy());
}

export async function listen(port: number, host = LOOPBACK): Promise<Server> {
  const server = createServer((socket) => socket.end("another program"));
  server.listen(port, host);
  await once(server, "listening");
  return server;
}

export async function close(server: Server): Promise<void> {
  server.close();
  await once(server, "close");
}

/** A port that nobody has at the moment. */
export async function freePort(): Promise<number> {
  const server = await listen(0);
  const { port } = server.address() as AddressInfo;
  await close(server);
  return port;
}

interface Recorded {
  readonly pid: number | null;
}

/** The process that serves a VM's ports, as recorded. */
export function portd(state: Pick<TestState, "databasePath">, vm: Pick<Vm, "vmId">): number {
  const sql = "SELECT pid FROM resources WHERE vm_id = ? AND name = 'ports'";
  const row = withDatabase(state.databasePath, (db) => db.prepare(sql).get(vm.vmId)) as unknown as Recorded | undefined;
  return row?.pid ?? 0;
}

/** Without what they can do. */
export const plain = (ports: Awaited<ReturnType<Vm["ports"]>>) =>
  ports.map(({ guestPort, hostAddress, hostPort }) => ({ guestPort, hostAddress, hostPort }));

/** Kills the process and waits until its ports are free. */
export async function killPortd(state: Pick<TestState, "databasePath">, vm: Vm, port: number): Promise<void> {
  process.kill(portd(state, vm), "SIGKILL");
  await eventually(async () => ((await refused(port)) === "ECONNREFUSED" ? true : undefined));
}

/** The processes that serve ports of a state directory's VMs, one line each. */
export function portdsOf({ runtimeDir }: Pick<TestState, "runtimeDir">): string[] {
  return processesAbout(runtimeDir).filter((line) => /^\d+ \S*portd-/.test(line));
}
