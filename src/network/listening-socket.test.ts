import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { spawnProgram } from "../host/process.js";
import { listenOn } from "./listening-socket.js";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "smolvm-listen-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

test("a client connects before there is anybody to accept it, and what it sent is read later", async () => {
  const socket = await listenOn(join(dir, "a"), join(dir, "b"));
  // Inherited by a child that does nothing yet; our own copy is closed.
  const serve = "require('net').createServer((c) => c.on('data', (d) => c.end('got ' + d))).listen({ fd: 3 })";
  const wait = "require('fs').readSync(0, Buffer.alloc(1));";
  const stdio = ["pipe" as const, "inherit" as const, "inherit" as const, socket.fd];
  const child = await spawnProgram([process.execPath, "-e", wait + serve], { stdio });
  try {
    expect(readdirSync(dir)).toEqual(["b"]);
    socket.handOver();
    socket.handOver();
    expect(readdirSync(dir)).toEqual(["a"]);
    const client = createConnection(join(dir, "a"));
    await once(client, "connect");
    client.write("early");
    child.stdin?.write("x");
    const [answer] = (await once(client, "data")) as [Buffer];
    expect(String(answer)).toBe("got early");
    client.destroy();
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
});

test("handing over without a child leaves a socket that nobody listens on", async () => {
  const socket = await listenOn(join(dir, "a"), join(dir, "b"));
  socket.handOver();
  const client = createConnection(join(dir, "a"));
  const [error] = (await once(client, "error")) as [NodeJS.ErrnoException];
  expect(error.code).toBe("ECONNREFUSED");
});

test("fails for a directory that is not there", async () => {
  await expect(listenOn(join(dir, "x/a"), join(dir, "x/b"))).rejects.toMatchObject({ code: "NETWORK_FAILED" });
});
