import { expect, test, vi } from "vitest";
import { deferred } from "../base/deferred.js";
import { ByteReceiver, type OutputStream } from "./byte-receiver.js";
import { type Frame, INITIAL_CREDIT_BYTES } from "./frame.js";

const transport = { send: vi.fn(() => true), drained: async () => {}, close: () => {}, refresh: () => {} };
const data = (channel: number, text: string | Buffer): Frame => ({
  ...{ name: "data", channel, stream: 1, sequence: 0 },
  payload: Buffer.from(text),
});

/** A receiver whose sink holds the first piece until it is let on. */
function held() {
  const gate = deferred<void>();
  const pieces: [OutputStream, Buffer][] = [];
  const failed = vi.fn();
  const receiver = new ByteReceiver(
    1,
    transport,
    (stream, piece) => {
      pieces.push([stream, piece]);
      return pieces.length === 1 ? gate.promise : undefined;
    },
    failed,
  );
  const drained = () => new Promise<void>((resolve) => receiver.inOrder(resolve));
  return { receiver, pieces, failed, letOn: gate.resolve, drained };
}

test("what waits for its consumer is put together, in order, and cut into pieces of at most 64 KiB", async () => {
  const { receiver, pieces, letOn, drained } = held();
  receiver.accept(data(1, "first"));
  for (let count = 0; count < 200_000; count++) receiver.accept(data(1, String(count % 10)));
  receiver.accept(data(2, "err"));
  receiver.accept(data(1, "a"));
  receiver.accept(data(1, "b"));
  receiver.accept(data(2, "c"));
  const all = drained();
  letOn();
  await all;
  const digits = Buffer.from("0123456789".repeat(20_000));
  expect(Buffer.concat(pieces.slice(1, 5).map(([, piece]) => piece)).equals(digits)).toBe(true);
  expect(pieces.slice(5).map(([stream, piece]) => [stream, String(piece)])).toEqual([
    ["stderr", "err"],
    ["stdout", "ab"],
    ["stderr", "c"],
  ]);
  expect(pieces.every(([, piece]) => piece.length <= 65_536)).toBe(true);
});

test("single bytes of both outputs in turn, as many as credit allows, arrive in order and cost little", async () => {
  const { receiver, pieces, letOn, drained } = held();
  receiver.accept(data(1, "f"));
  const before = process.memoryUsage();
  const frames = [data(2, "e"), data(1, "o")] as const;
  for (let count = 0; count < INITIAL_CREDIT_BYTES - 1; count++) for (const frame of frames) receiver.accept(frame);
  const after = process.memoryUsage();
  // Half a million frames: an object for each would be a hundred megabytes and more.
  expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(48 * 1024 * 1024);
  const all = drained();
  letOn();
  await all;
  expect(pieces).toHaveLength(2 * INITIAL_CREDIT_BYTES - 1);
  expect(pieces.slice(1).every(([stream], index) => stream === (index % 2 === 0 ? "stderr" : "stdout"))).toBe(true);
});

test("other work comes in its turn, and only so much of it", async () => {
  const { receiver, letOn, drained } = held();
  receiver.accept(data(1, "first"));
  const order: string[] = [];
  receiver.inOrder(() => void order.push("work"));
  const all = drained().then(() => order.push("end"));
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(order).toEqual([]);
  letOn();
  await all;
  expect(order).toEqual(["work", "end"]);
  const other = held().receiver;
  other.accept(data(1, "first"));
  expect(() => {
    for (let count = 0; count < 5_000; count++) other.inOrder(() => {});
  }).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
});

test("a consumer that fails is told of once, and gets nothing more", async () => {
  const failed = vi.fn();
  const sink = vi.fn(async () => {
    throw new RangeError("full");
  });
  const receiver = new ByteReceiver(1, transport, sink, failed);
  for (let count = 0; count < 10; count++) receiver.accept(data(1, "x"));
  await new Promise((resolve) => setTimeout(resolve, 5));
  receiver.accept(data(1, "x"));
  receiver.inOrder(() => failed("late"));
  expect(failed.mock.calls).toEqual([[new RangeError("full")]]);
  expect(sink).toHaveBeenCalledTimes(1);
});
