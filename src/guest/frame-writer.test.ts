import { PassThrough } from "node:stream";
import fc from "fast-check";
import { expect, test } from "vitest";
import { PREAMBLE } from "./frame.js";
import { FrameWriter, nextChunkBytes, SENT_CHUNK_BYTES } from "./frame-writer.js";

/** What a client puts on the wire that sends these bytes as stdin, with this much credit each time. */
function sent(data: Buffer, creditBytes: number): Buffer {
  const wire = new PassThrough({ highWaterMark: 64 * 1024 * 1024 });
  const writer = new FrameWriter(wire);
  writer.open(Buffer.from("0100000004000000010200000010000102030405060708090a0b0c0d0e0f", "hex"));
  for (let rest = data; rest.length > 0; ) {
    const sizeBytes = nextChunkBytes(rest, creditBytes);
    expect(sizeBytes).toBeGreaterThan(0);
    expect(sizeBytes).toBeLessThanOrEqual(Math.min(creditBytes, SENT_CHUNK_BYTES, rest.length));
    writer.send({ name: "data", stream: 1, channel: 0, payload: rest.subarray(0, sizeBytes) });
    rest = rest.subarray(sizeBytes);
  }
  return wire.read() as Buffer;
}

function preambleCount(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(PREAMBLE); at >= 0; at = bytes.indexOf(PREAMBLE, at + 1)) count += 1;
  return count;
}

/** Data that is full of preambles and parts of them. */
const teasing = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.constant(PREAMBLE),
      fc.tuple(fc.nat(15), fc.nat(16)).map(([from, to]) => PREAMBLE.subarray(from, to)),
      fc.nat(300).map((size) => Buffer.alloc(size, 0xff)),
    ),
    { minLength: 1, maxLength: 12 },
  )
  .map((parts) => Buffer.concat(parts));

test("the preamble is on the wire exactly once, whatever the data", () => {
  fc.assert(
    fc.property(teasing, fc.integer({ min: 1, max: 600 }), (data, creditBytes) => {
      expect(preambleCount(sent(data, creditBytes))).toBe(1);
    }),
    { numRuns: 300 },
  );
});

test("a preamble in the data is cut in two, at every place of a chunk", () => {
  for (let at = 0; at <= 40; at++) {
    const data = Buffer.concat([Buffer.alloc(at, 1), PREAMBLE, PREAMBLE, Buffer.from("end")]);
    for (const credit of [1, 7, 8, 15, 16, 17, 1000]) expect(preambleCount(sent(data, credit))).toBe(1);
  }
});

test("a header whose last byte begins a preamble does not make one with the data behind it", () => {
  for (const sizeBytes of [255, 511, 0x7fff]) {
    const data = Buffer.concat([PREAMBLE.subarray(1), Buffer.alloc(sizeBytes - PREAMBLE.length + 1, 7)]);
    expect(data.length).toBe(sizeBytes);
    expect(preambleCount(sent(data, SENT_CHUNK_BYTES))).toBe(1);
  }
});

test("the data arrives whole", () => {
  fc.assert(
    fc.property(teasing, fc.integer({ min: 1, max: 600 }), (data, creditBytes) => {
      const wire = sent(data, creditBytes);
      const parts: Buffer[] = [];
      for (let at = PREAMBLE.length + 16 + 30; at < wire.length; ) {
        const sizeBytes = wire.readUInt32BE(at + 12);
        parts.push(wire.subarray(at + 16, at + 16 + sizeBytes));
        at += 16 + sizeBytes;
      }
      expect(Buffer.concat(parts).equals(data)).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test("without a preamble the chunk is as large as allowed", () => {
  const data = Buffer.alloc(100_000, 3);
  expect(nextChunkBytes(data, 262_144)).toBe(SENT_CHUNK_BYTES);
  expect(nextChunkBytes(data, 1000)).toBe(1000);
  expect(nextChunkBytes(data.subarray(0, 5), 1000)).toBe(5);
});
