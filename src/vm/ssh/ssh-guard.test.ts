import { Socket } from "node:net";
import type { Client } from "ssh2";
import { expect, test } from "vitest";
import { guardSsh } from "./ssh-guard.js";

const MIB = 1024 * 1024;

test.each([
  { waits: 3 * MIB, ends: false },
  { waits: 5 * MIB, ends: true },
])("a server that makes $waits bytes wait for it ends: $ends", ({ waits, ends }) => {
  const socket = new Socket();
  socket.cork(); // What is written waits.
  socket.on("error", () => {});
  guardSsh(socket, {} as Client);
  socket.write(Buffer.alloc(waits));
  socket.emit("data", Buffer.alloc(1));
  expect(socket.destroyed).toBe(ends);
  if (ends) expect(socket.errored).toMatchObject({ code: "PROTOCOL_ERROR" });
  socket.destroy();
});
