import { existsSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { scratch, soon } from "./testing/machines.js";
import { attempt, connectToAgent } from "./vsock.js";

/** Listens as Firecracker does; `answer` gets the line and the connection. */
async function listen(answer: (line: string, socket: Socket) => void): Promise<{ socketPath: string; server: Server }> {
  const socketPath = join(scratch(), "vsock");
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (data: Buffer) => answer(data.toString("latin1"), socket));
    onTestFinished(() => void socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  onTestFinished(() => void server.close());
  return { socketPath, server };
}

const received = (socket: Socket, length: number) =>
  new Promise<string>((resolve) => {
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.length >= length) resolve(text);
    });
  });

test("asks for the port, and gives the connection with what came behind the answer", async () => {
  const lines: string[] = [];
  const { socketPath } = await listen((line, socket) => {
    lines.push(line);
    socket.write("OK 1073741824\nfirst");
    socket.on("data", (chunk) => socket.write(chunk));
  });
  const socket = await connectToAgent({ socketPath, port: 1024 }, soon());
  socket.write(" then");
  expect(await received(socket, 10)).toBe("first then");
  expect(lines).toEqual(["CONNECT 1024\n"]);
  socket.destroy();
});

test("reads an answer that comes byte by byte", async () => {
  const { socketPath } = await listen((_line, socket) => {
    for (const [index, byte] of [..."OK 1\n"].entries()) setTimeout(() => socket.write(byte), index * 5);
  });
  (await connectToAgent({ socketPath, port: 1024 }, soon())).destroy();
});

test("tries again while nobody listens in the guest", async () => {
  let count = 0;
  const { socketPath } = await listen((_line, socket) => {
    count += 1;
    if (count < 3) socket.destroy();
    else socket.write("OK 5\n");
  });
  (await connectToAgent({ socketPath, port: 1024 }, soon())).destroy();
  expect(count).toBe(3);
});

describe("what is missing is told", () => {
  const failure = async (socketPath: string, limitMs = 60) =>
    connectToAgent({ socketPath, port: 1024 }, Deadline.after(limitMs)).catch((error: unknown) => error);

  test("no VMM", async () => {
    expect(await failure(join(scratch(), "vsock"))).toMatchObject({ code: "TIMEOUT", details: { absence: "no VMM" } });
  });

  test("no VMM any more: its socket is still there", async () => {
    const { socketPath, server } = await listen(() => {});
    const kept = join(scratch(), "kept");
    const { linkSync } = await import("node:fs");
    linkSync(socketPath, kept); // Node.js removes the socket of a server that ends in order.
    await new Promise((resolve) => server.close(resolve));
    expect(existsSync(kept)).toBe(true);
    expect(await failure(kept)).toMatchObject({ code: "TIMEOUT", details: { absence: "no VMM" } });
  });

  test("no listener", async () => {
    const { socketPath } = await listen((_line, socket) => socket.end());
    expect(await failure(socketPath)).toMatchObject({ code: "TIMEOUT", details: { absence: "no listener" } });
  });

  test("no answer: no attempt is left behind", async () => {
    const open = new Set<Socket>();
    const { socketPath, server } = await listen(() => {});
    server.on("connection", (socket: Socket) => {
      open.add(socket);
      socket.on("close", () => open.delete(socket));
      socket.resume();
    });
    expect(await failure(socketPath)).toMatchObject({ code: "TIMEOUT", details: { absence: "no answer" } });
    await expect.poll(() => open.size).toBe(0);
  });
});

test.each(["HTTP/1.1 400", "OK\n", "OK 12 x\n", "x".repeat(100)])(
  "%j is no answer of Firecracker's",
  async (answer) => {
    const { socketPath } = await listen((_line, socket) => socket.write(`${answer}\n`));
    await expect(connectToAgent({ socketPath, port: 1024 }, soon())).rejects.toMatchObject({ code: "PROTOCOL_ERROR" });
  },
);

test("an abort ends it", async () => {
  const { socketPath } = await listen(() => {});
  const aborted = new AbortController();
  setTimeout(() => aborted.abort(), 20);
  const deadline = Deadline.after(10_000, aborted.signal);
  await expect(connectToAgent({ socketPath, port: 1024 }, deadline)).rejects.toMatchObject({ code: "ABORTED" });
  await expect(connectToAgent({ socketPath, port: 1024 }, deadline)).rejects.toMatchObject({ code: "ABORTED" });
});

test("what is there and no socket is no VMM", async () => {
  const { writeFileSync } = await import("node:fs");
  const socketPath = join(scratch(), "vsock");
  writeFileSync(socketPath, "");
  expect(await attempt({ socketPath, port: 1024 }, soon())).toBe("no VMM");
});
