import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { endProcessGroup } from "../host/end-process.js";
import { identifyProcess } from "../host/process-identity.js";
import { scratchDirectory } from "../storage/testing/scratch-store.js";
import { parseAnswer, startMountServer } from "./mount-server.js";

it.each([
  ["ready", undefined],
  ['error\t1\tENOENT\t"no such file"', { index: 1, code: "ENOENT", reason: "no such file" }],
  ['error\t-1\tEIO\t"a\\x00b"', { index: -1, code: "EIO", reason: '"a\\x00b"' }],
  ["", { index: -1, code: "EIO", reason: "the program that serves the mounts ended" }],
  ["readyx", { index: -1, code: "EIO", reason: "the program that serves the mounts ended" }],
])("reads the answer %j", (line, expected) => {
  expect(parseAnswer(line)).toEqual(expected);
});

/** A connected socket, as a backend dials one. */
async function lane(directory: string): Promise<{ ours: Socket; received: () => string }> {
  let received = "";
  const server = createServer((socket) => socket.on("data", (data) => (received += data)));
  const path = join(directory, "lane");
  await new Promise<void>((done) => server.listen(path, done));
  onTestFinished(() => void server.close());
  const ours = createConnection(path);
  await new Promise((done) => ours.once("connect", done));
  return { ours, received: () => received };
}

async function start(script: string) {
  const directory = scratchDirectory();
  const program = join(directory, "hostfs");
  writeFileSync(program, `#!/bin/sh\n${script}\n`);
  chmodSync(program, 0o755);
  const { ours, received } = await lane(directory);
  const server = await startMountServer(program, directory, ours);
  const identity = await identifyProcess(server.pid);
  if (identity !== undefined) onTestFinished(() => endProcessGroup(identity));
  return { server, directory, ours, received };
}

const mounts = [
  { hostPath: "/host/a b", guestPath: "/guest/a", writable: false },
  { hostPath: "/host/b", guestPath: "/guest/b", writable: true },
];

it("hands over the lane, tells what to serve, and outlives nothing that it waits for", async () => {
  const { server, directory, ours, received } = await start(
    "cat > order; echo $2 > fd; echo spoken >&3; echo ready; sleep 60",
  );
  expect(ours.destroyed).toBe(true);
  expect(await server.serve(mounts)).toBeUndefined();
  expect(readFileSync(join(directory, "order"), "utf8")).toBe("ro\0/host/a b\0/guest/a\0rw\0/host/b\0/guest/b\0end\0");
  expect(readFileSync(join(directory, "fd"), "utf8")).toBe("3\n");
  await expect.poll(received).toBe("spoken\n");
  server.forget();
});

it("says why it could not, or that it ended", async () => {
  const failing = await start(`cat > /dev/null; printf 'error\\t1\\tEACCES\\t"no"\\n'; exit 1`);
  expect(await failing.server.serve(mounts)).toEqual({ index: 1, code: "EACCES", reason: "no" });
  const ending = await start("exit 3");
  expect(await ending.server.serve(mounts)).toMatchObject({ index: -1, code: "EIO" });
});

it("that was told nothing ends", async () => {
  const { server, directory } = await start("cat > order; touch ended");
  server.forget();
  await expect.poll(() => existsSync(join(directory, "ended"))).toBe(true);
});
