import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { deferred } from "../../base/deferred.js";
import { LateLane } from "./late-lane.js";
import { scratch } from "./testing/machines.js";

/** Both ends of a connection. */
async function pair(): Promise<{ near: Socket; far: Socket }> {
  const path = join(scratch(), "socket");
  const server = createServer();
  server.listen(path);
  await once(server, "listening");
  const { createConnection } = await import("node:net");
  const near = createConnection(path);
  const [far] = (await once(server, "connection")) as [Socket];
  server.close();
  far.on("error", () => {});
  onTestFinished(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far };
}

const textOf = (socket: NodeJS.ReadableStream, length: number) =>
  new Promise<string>((resolve) => {
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.length >= length) resolve(text);
    });
  });

test("what is written before the connection is there arrives, in order, and answers come back", async () => {
  const connection = deferred<Socket>();
  const lane = new LateLane(() => connection.promise);
  lane.write("a");
  lane.write("b");
  const { near, far } = await pair();
  connection.resolve(near);
  lane.write("c");
  expect(await textOf(far, 3)).toBe("abc");
  far.write("answer");
  expect(await textOf(lane, 6)).toBe("answer");
  lane.destroy();
  await once(far, "close");
});

test("carries more than fits, and waits for a slow reader", async () => {
  const { near, far } = await pair();
  const lane = new LateLane(async () => near);
  const size = 4 * 2 ** 20;
  far.write(Buffer.alloc(size, 1));
  lane.write(Buffer.alloc(size, 2));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(lane.readableLength).toBeLessThan(size / 2);
  const lengths = await Promise.all([textOf(lane, size), textOf(far, size)]);
  expect(lengths.map((text) => text.length)).toEqual([size, size]);
  lane.destroy();
});

test("ends when the other end does", async () => {
  const { near, far } = await pair();
  const lane = new LateLane(async () => near);
  lane.resume();
  far.end();
  await once(lane, "close");
  expect(lane.destroyed).toBe(true);
});

test("fails as the connection does, and writes with it", async () => {
  const lane = new LateLane(async () => {
    throw new RangeError("no guest");
  });
  const written = new Promise((resolve) => lane.write("a", resolve));
  const [error] = await once(lane, "error").catch((reason: unknown) => [reason]);
  expect(error).toMatchObject({ message: "no guest" });
  expect(await written).toBeInstanceOf(Error);
});

test("destroyed before it is connected: the attempt is given up, and what comes of it is closed", async () => {
  const connection = deferred<Socket>();
  let given: AbortSignal | undefined;
  const lane = new LateLane((signal) => {
    given = signal;
    return connection.promise;
  });
  lane.destroy();
  expect(given?.aborted).toBe(true);
  const { near, far } = await pair();
  connection.resolve(near);
  await once(far, "close");
});
