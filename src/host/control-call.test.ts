import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import { controlCall } from "./control-call.js";

let dir: string;
let server: Server | undefined;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "smolvm-control-"));
});
afterEach(() => {
  server?.close();
  server = undefined;
  rmSync(dir, { recursive: true });
});

async function serving(serve: (socket: Socket) => void): Promise<string> {
  const path = join(dir, "ctl.sock");
  server = createServer(serve).listen(path);
  await once(server, "listening");
  return path;
}

const soon = () => Deadline.after(5_000);

test("a question is a line, and so is the answer", async () => {
  const path = await serving((socket) =>
    socket.once("data", (line) => {
      const { op } = JSON.parse(String(line)) as { op: string };
      socket.write(`{"ok":true,`);
      setImmediate(() => socket.write(`"said":"${op}"}\n`));
    }),
  );
  expect(await controlCall(path, { op: "hello" }, soon())).toEqual({ ok: true, said: "hello" });
});

test("a refusal is an answer", async () => {
  const answer = { ok: false, code: "EADDRINUSE", message: "in use" };
  const path = await serving((socket) => socket.end(`${JSON.stringify(answer)}\n`));
  expect(await controlCall(path, { op: "listen" }, soon())).toEqual(answer);
});

test("nobody there is no answer", async () => {
  expect(await controlCall(join(dir, "nobody"), { op: "x" }, soon())).toBeUndefined();
});

test.each(["", '{"ok":true}', "{\n", "7\n", "{}\n"])("%j is none", async (text) => {
  const path = await serving((socket) => socket.end(text));
  await expect(controlCall(path, { op: "x" }, soon())).rejects.toMatchObject({ code: "NETWORK_FAILED" });
});

test("a helper that stays silent is waited for until the deadline, or an abort", async () => {
  const path = await serving((socket) => socket.on("error", () => {}));
  await expect(controlCall(path, { op: "x" }, Deadline.after(50))).rejects.toMatchObject({ code: "TIMEOUT" });
  const aborted = Deadline.after(5_000, AbortSignal.timeout(50));
  await expect(controlCall(path, { op: "x" }, aborted)).rejects.toMatchObject({ code: "ABORTED" });
});
