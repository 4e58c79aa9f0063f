import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type Socket, type Server as TcpServer } from "node:net";
import ssh2, { type AuthContext, type Connection, type ServerChannel, type Server as SshServer } from "ssh2";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { dialSsh } from "./dial-ssh.js";
import { makeOpenSshKey } from "./openssh-key.js";
import type { SshTarget } from "./ssh-target.js";

const { Server } = ssh2;
const LIMIT_MS = 20_000;
const [hostKey, clientKey] = [makeOpenSshKey(), makeOpenSshKey()];
const open: (SshServer | TcpServer)[] = [];

afterEach(() => {
  vi.unstubAllEnvs();
  for (const server of open.splice(0)) server.close();
});

/** What a server that is not OpenSSH's does otherwise than a good one. */
interface Quirks {
  readonly key?: string;
  readonly accepts?: string;
  readonly hasAgent?: boolean;
  readonly compress?: "zlib";
}

/** What ssh2's server can send that no good server does; it has no public name. */
interface Inside {
  readonly _sock: Socket;
  readonly _protocol: {
    channelData(id: number, data: Buffer): void;
    channelWindowAdjust(id: number, bytes: number): void;
    readonly _packetRW: { readonly write: { alloc(bytes: number): Buffer; readonly allocStart: number } };
    readonly _cipher: { encrypt(packet: Buffer): void };
    rekey(): void;
  };
}

interface ChannelInside {
  readonly incoming: { window: number };
  readonly outgoing: { readonly id: number };
}

interface FakeServer {
  readonly target: SshTarget;
  /** Ways of logging in that were tried. */
  readonly tried: string[];
  readonly channels: ServerChannel[];
  hangUp(): void;
}

/** Echoes what comes on the agent's socket. */
async function serve(quirks: Quirks = {}) {
  const { key = hostKey.privateKey, accepts = clientKey.publicKey, hasAgent = true, compress = "none" } = quirks;
  const tried: string[] = [];
  const channels: ServerChannel[] = [];
  const clients: Connection[] = [];
  const server = new Server({ hostKeys: [key], algorithms: { compress: [compress] } }, (client) => {
    clients.push(client);
    client.on("error", () => {});
    client.on("authentication", (attempt: AuthContext) => {
      const offered = attempt.method === "publickey" ? `ssh-ed25519 ${attempt.key.data.toString("base64")}` : "";
      tried.push(attempt.method === "publickey" ? offered : attempt.method);
      if (offered === accepts) attempt.accept();
      else attempt.reject(["publickey", "password", "keyboard-interactive"]);
    });
    client.on("openssh.streamlocal", (accept, reject, { socketPath }) => {
      if (!hasAgent || socketPath !== "/run/smolvm/agent.sock") return void reject();
      const channel = accept();
      channels.push(channel);
      channel.pipe(channel);
    });
  });
  open.push(server);
  return {
    ...{ tried, channels, target: await targetOf(server) },
    hangUp: () => clients.map((client) => client.end()),
    inside: () => clients[0] as unknown as Inside,
  };
}

/** One of `hostkeys-00@openssh.com`, which ssh2 answers with a question. */
function sayHostKeys({ _protocol: { _packetRW, _cipher } }: Inside): void {
  const text = (value: Buffer) => Buffer.concat([Buffer.from(Uint32Array.of(value.length).buffer).swap32(), value]);
  const key = Buffer.from(hostKey.publicKey.split(" ")[1] ?? "", "base64");
  const message = [Buffer.of(80), text(Buffer.from("hostkeys-00@openssh.com")), Buffer.of(0), text(key)];
  const payload = Buffer.concat(message);
  const packet = _packetRW.write.alloc(payload.length);
  packet.set(payload, _packetRW.write.allocStart);
  _cipher.encrypt(packet);
}

async function targetOf(server: SshServer | TcpServer): Promise<SshTarget> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const keys = { privateKey: clientKey.privateKey, hostKey: hostKey.publicKey };
  return { vmId: "a1", host: "127.0.0.1", port, user: "root", ...keys };
}

function dial({ target }: Pick<FakeServer, "target">, signal?: AbortSignal) {
  return dialSsh(target, Deadline.after(LIMIT_MS, signal));
}

describe("a connection over SSH", () => {
  test("carries bytes both ways, more than any window, and ends with the server", async () => {
    const server = await serve();
    const lane = await dial(server);
    const sent = Buffer.alloc(5 * 1024 * 1024, "smolvm ");
    let received = 0;
    lane.on("data", (chunk: Buffer) => {
      received += chunk.length;
    });
    lane.write(sent);
    await vi.waitFor(() => expect(received).toBe(sent.length), LIMIT_MS);
    const closed = once(lane, "close");
    server.hangUp();
    await closed;
  });

  test("ends when the server sends what nobody reads", async () => {
    const server = await serve();
    const lane = await dial(server);
    const failed = once(lane, "error");
    const [channel] = server.channels as [ServerChannel];
    channel.stderr.write("flood");
    expect(await failed).toMatchObject([{ code: "PROTOCOL_ERROR" }]);
    expect(lane.destroyed).toBe(true);
  });

  test("ends when the server sends more than it may while nobody reads", async () => {
    const server = await serve();
    const lane = await dial(server);
    const failed = once(lane, "error");
    const { id } = (server.channels[0] as unknown as ChannelInside).outgoing;
    for (let i = 0; i < 200; i++) server.inside()._protocol.channelData(id, Buffer.alloc(32_000)); // 6 MB
    expect(await failed).toMatchObject([{ code: "PROTOCOL_ERROR" }]);
  });

  test("ends when the server wants proof of its keys asked for again and again", async () => {
    const server = await serve();
    const lane = await dial(server);
    const failed = once(lane, "error");
    const say = () => {
      for (let i = 0; i < 10; i++) sayHostKeys(server.inside());
    };
    const timer = setInterval(say, 5);
    await failed.finally(() => clearInterval(timer));
    expect(await failed).toMatchObject([{ code: "PROTOCOL_ERROR" }]);
  });

  test.each(["reads nothing", "never ends a key exchange"])(
    "holds its writer back while the server %s",
    async (how) => {
      const server = await serve();
      const lane = await dial(server);
      const [channel] = server.channels as [ServerChannel];
      channel.unpipe(channel);
      let received = 0;
      channel.on("data", (chunk: Buffer) => {
        received += chunk.length;
      });
      channel.resume();
      const inside = server.inside();
      const { incoming, outgoing } = channel as unknown as ChannelInside;
      incoming.window += 2 ** 30;
      inside._protocol.channelWindowAdjust(outgoing.id, 2 ** 30);
      inside._sock.pause();
      if (how !== "reads nothing") inside._protocol.rekey();
      await new Promise((resolve) => setTimeout(resolve, 50));
      let taken = 0;
      const push = () => lane.write(Buffer.alloc(65_536), () => (++taken < 1_000 ? push() : undefined));
      push();
      for (let before = -1; before !== taken; ) {
        before = taken;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      expect(taken).toBeLessThan(1_000);
      inside._sock.resume();
      await vi.waitFor(() => expect(received).toBe(65_536_000), LIMIT_MS);
      lane.destroy();
    },
  );

  test("holds the server back while nobody reads", async () => {
    const server = await serve();
    const lane = await dial(server);
    lane.once("data", () => lane.pause());
    const [channel] = server.channels as [ServerChannel];
    channel.unpipe(channel);
    let taken = 0;
    const push = () => channel.write(Buffer.alloc(65_536), () => (++taken < 1_000 ? push() : undefined));
    push();
    await vi.waitFor(() => expect(taken).toBeGreaterThan(1), LIMIT_MS);
    for (let before = -1; before !== taken; ) {
      before = taken;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(taken).toBeLessThan(1_000);
    lane.destroy();
  });

  test("is over at once when it is destroyed, and the server hears of it", async () => {
    const server = await serve();
    const lane = await dial(server);
    const closed = once(server.channels[0]!, "close");
    lane.destroy();
    await closed;
    expect(lane.destroyed).toBe(true);
  });

  test("tries the VM's own key and nothing else, whatever agent or password the program has", async () => {
    vi.stubEnv("SSH_AUTH_SOCK", "/nonexistent/agent");
    const server = await serve();
    (await dial(server)).destroy();
    expect(new Set(server.tried)).toEqual(new Set([clientKey.publicKey]));
  });
});

describe("a connection that comes to nothing", () => {
  test("is refused to a server with another key, which sees no attempt to log in", async () => {
    const server = await serve({ key: makeOpenSshKey().privateKey });
    await expect(dial(server)).rejects.toMatchObject({ code: "SSH_FAILED", details: { reason: "host-key" } });
    expect(server.tried).toEqual([]);
  });

  test("says that the key was not accepted, without trying a password", async () => {
    const server = await serve({ accepts: makeOpenSshKey().publicKey });
    await expect(dial(server)).rejects.toMatchObject({ code: "SSH_FAILED", details: { reason: "authentication" } });
    expect(new Set(server.tried)).toEqual(new Set([clientKey.publicKey]));
  });

  test("says that the agent is not there", async () => {
    const failed = dial(await serve({ hasAgent: false }));
    await expect(failed).rejects.toMatchObject({ code: "SSH_FAILED", details: { reason: "agent-socket" } });
  });

  test("is tried again while the server hangs up before it has said who it is", async () => {
    let count = 0;
    const server = createServer((socket) => {
      count++;
      socket.destroy();
    });
    open.push(server);
    const failed = dial({ target: await targetOf(server) });
    await expect(failed).rejects.toMatchObject({ code: "SSH_FAILED", details: { reason: "unreachable" } });
    expect(count).toBe(5);
  });

  test("speaks of a server that says something else than SSH", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end("HTTP/1.0 200 OK\r\n\r\n".repeat(10_000));
    });
    open.push(server);
    await expect(dial({ target: await targetOf(server) })).rejects.toMatchObject({ code: "SSH_FAILED" });
  });

  test("is made to no server that compresses: what unpacks has no bound", async () => {
    await expect(dial(await serve({ compress: "zlib" }))).rejects.toMatchObject({ code: "SSH_FAILED" });
  });

  test("ends with its deadline, and with its caller's signal, between two tries", async () => {
    const abort = new AbortController();
    let count = 0;
    const server = createServer((socket) => {
      count++;
      socket.on("close", () => setTimeout(() => abort.abort(), 20)).destroy();
    });
    open.push(server);
    const target = await targetOf(server);
    await expect(dial({ target }, abort.signal)).rejects.toMatchObject({ code: "ABORTED" });
    expect(count).toBe(1);
    await expect(dialSsh(target, Deadline.after(100))).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("ends with its deadline, and with its caller's signal, while the server is silent", async () => {
    const server = createServer(() => {});
    open.push(server);
    const target = await targetOf(server);
    await expect(dialSsh(target, Deadline.after(200))).rejects.toMatchObject({ code: "TIMEOUT" });
    const abort = new AbortController();
    const failed = dial({ target }, abort.signal);
    abort.abort();
    await expect(failed).rejects.toMatchObject({ code: "ABORTED" });
  });
});
