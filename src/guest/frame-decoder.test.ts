import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeHeader, type Frame, type FrameName, PREAMBLE } from "./frame.js";
import { FrameDecoder } from "./frame-decoder.js";
import { welcomePayload } from "./testing/fake-agent.js";

const NONCE = Buffer.from("00112233445566778899aabbccddeeff", "hex");
const RUNS = { numRuns: 150 };
const LEFTOVER_LIMIT_BYTES = 16 * 1024 * 1024;
const isProtocolError = expect.objectContaining({ code: "PROTOCOL_ERROR" });

function frameBytes(name: FrameName, sequence: number, payload: Uint8Array = Buffer.alloc(0), stream = 1): Buffer {
  const hasChannel = name === "data" || name === "end";
  const header = { name, channel: hasChannel ? 1 : 0, stream, sequence, payloadBytes: payload.length };
  return Buffer.concat([encodeHeader(header), payload]);
}

function answer(nonce: Uint8Array = NONCE): Buffer {
  return Buffer.concat([PREAMBLE, frameBytes("welcome", 0, welcomePayload(nonce), 0)]);
}

function dataFrames(payloads: readonly Uint8Array[]): Buffer {
  return Buffer.concat(payloads.map((payload, index) => frameBytes("data", index + 1, payload)));
}

/** Feeds bytes in pieces that end at these places. */
function feed(bytes: Buffer, cuts: readonly number[]): Frame[] {
  const decoder = new FrameDecoder(NONCE);
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  return [...ends, bytes.length].flatMap((end) => {
    const piece = bytes.subarray(from, end);
    from = end;
    return decoder.push(piece);
  });
}

const payloads = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 12 });
const cuts = fc.array(fc.nat(5_000), { maxLength: 40 });
/** Garbage that likes to look like the real thing. */
const garbage = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.nat(PREAMBLE.length).map((size) => PREAMBLE.subarray(0, size)),
      fc.constant(PREAMBLE),
      fc.nat(80).map((size) => answer(Buffer.alloc(16, 1)).subarray(0, size)),
    ),
    { maxLength: 8 },
  )
  .map((parts) => Buffer.concat(parts));

function texts(frames: readonly Frame[]) {
  return frames.map(({ name, payload }) => `${name} ${payload.toString("hex")}`);
}

describe("any chunking", () => {
  test("of a valid stream gives the same frames", () => {
    fc.assert(
      fc.property(payloads, cuts, (parts, at) => {
        const bytes = Buffer.concat([answer(), dataFrames(parts)]);
        const frames = feed(bytes, at);
        expect(frames[0]?.name).toBe("welcome");
        expect(frames.slice(1).map(({ payload }) => Buffer.from(payload))).toEqual(
          parts.map((part) => Buffer.from(part)),
        );
      }),
      RUNS,
    );
  });

  test("byte by byte, and with the preamble split at every place", () => {
    const bytes = Buffer.concat([answer(), dataFrames([Buffer.from("a"), Buffer.from("bc")])]);
    const whole = texts(feed(bytes, []));
    expect(whole).toHaveLength(3);
    expect(texts(feed(bytes, [...bytes.keys()]))).toEqual(whole);
    for (let cut = 0; cut <= PREAMBLE.length; cut++) expect(texts(feed(bytes, [cut]))).toEqual(whole);
  });

  test("of a stream after garbage gives the same frames", () => {
    fc.assert(
      fc.property(garbage, payloads, cuts, (before, parts, at) => {
        const clean = texts(feed(Buffer.concat([answer(), dataFrames(parts)]), []));
        expect(texts(feed(Buffer.concat([before, answer(), dataFrames(parts)]), at))).toEqual(clean);
      }),
      RUNS,
    );
  });
});

describe("before the answer", () => {
  test("garbage alone gives nothing", () => {
    fc.assert(
      fc.property(garbage, cuts, (bytes, at) => {
        expect(feed(bytes, at)).toEqual([]);
      }),
      RUNS,
    );
  });

  test("leftovers are dropped up to 16 MiB, not beyond", () => {
    const piece = Buffer.alloc(1024 * 1024, 0xff);
    const patient = new FrameDecoder(NONCE);
    for (let size = 0; size < LEFTOVER_LIMIT_BYTES; size += piece.length) patient.push(piece);
    expect(patient.push(answer())).toHaveLength(1);

    const drowned = new FrameDecoder(NONCE);
    for (let size = 0; size < LEFTOVER_LIMIT_BYTES; size += piece.length) drowned.push(piece);
    expect(() => drowned.push(piece)).toThrow(isProtocolError);
  });

  test("a leftover answer to another nonce is skipped, whole or cut off anywhere", () => {
    const leftover = answer(Buffer.alloc(16, 9));
    for (let size = 0; size <= leftover.length; size++) {
      const bytes = Buffer.concat([leftover.subarray(0, size), answer()]);
      expect(texts(feed(bytes, [size]))).toEqual(texts(feed(answer(), [])));
    }
  });

  test("a leftover that announces more than it has does not hide the answer", () => {
    const liar = Buffer.concat([
      PREAMBLE,
      encodeHeader({ name: "welcome", channel: 0, stream: 0, sequence: 0, payloadBytes: 60_000 }),
    ]);
    expect(texts(feed(Buffer.concat([liar, answer()]), []))).toEqual(texts(feed(answer(), [])));
    expect(texts(feed(Buffer.concat([liar, liar, answer(), frameBytes("end", 1)]), [5, 50, 70]))).toHaveLength(2);
  });

  test("a welcome with a broken field list, or a number that is not 0, is no answer", () => {
    const broken = Buffer.concat([PREAMBLE, frameBytes("welcome", 0, Buffer.from([2, 0, 0, 0]), 0)]);
    const numbered = Buffer.concat([PREAMBLE, frameBytes("welcome", 1, welcomePayload(NONCE), 0)]);
    expect(feed(Buffer.concat([broken, numbered]), [])).toEqual([]);
  });
});

describe("after the answer", () => {
  test("garbage is a protocol error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 64 }), (bytes) => {
        fc.pre(bytes[0] !== 0x53 || bytes[1] !== 0x4d);
        expect(() => feed(Buffer.concat([answer(), bytes]), [])).toThrow(isProtocolError);
      }),
      RUNS,
    );
  });

  test("a second preamble is a protocol error", () => {
    expect(() => feed(Buffer.concat([answer(), answer()]), [])).toThrow(isProtocolError);
  });

  test("a cut stream never yields the frame that was cut", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.nat(), (payload, at) => {
        const frame = frameBytes("data", 1, payload);
        expect(feed(Buffer.concat([answer(), frame.subarray(0, at % frame.length)]), [])).toHaveLength(1);
      }),
      RUNS,
    );
  });

  test.each([
    ["replayed", 1],
    ["skipped", 3],
    ["negative", 0],
  ])("a sequence number that is %s is a protocol error", (_what, sequence) => {
    const bytes = Buffer.concat([answer(), frameBytes("end", 1), frameBytes("end", sequence)]);
    expect(() => feed(bytes, [])).toThrow(isProtocolError);
  });

  test.each([
    ["data of 65 537 bytes", "data", 65_537],
    ["a reply of 65 537 bytes", "reply", 65_537],
    ["a reply of 4 GiB", "reply", 2 ** 32 - 1],
    ["empty data", "data", 0],
    ["an end with a payload", "end", 1],
    ["a credit of five bytes", "credit", 5],
  ] as const)("%s is refused by its header alone", (_what, name, payloadBytes) => {
    const header = encodeHeader({ name, channel: name === "reply" ? 0 : 1, stream: 1, sequence: 1, payloadBytes });
    expect(() => feed(Buffer.concat([answer(), header]), [])).toThrow(isProtocolError);
  });

  test("data of 65 536 bytes is accepted", () => {
    const frames = feed(Buffer.concat([answer(), frameBytes("data", 1, Buffer.alloc(65_536, 1))]), [40_000]);
    expect(frames[1]?.payload.length).toBe(65_536);
  });

  test.each(["hello", "exec", "signal", "kill", "call"] as const)("frame %s is not for an agent to send", (name) => {
    const bytes = Buffer.concat([answer(), frameBytes(name, 1, Buffer.alloc(0), name === "hello" ? 0 : 1)]);
    expect(() => feed(bytes, [])).toThrow(isProtocolError);
  });
});
