import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { FieldReader, FieldWriter } from "./fields.js";
import {
  decodeHeader,
  encodeHeader,
  FRAME_TYPE,
  type FrameName,
  HEADER_BYTES,
  nextSequence,
  PREAMBLE,
} from "./frame.js";
import { FrameDecoder } from "./frame-decoder.js";
import { welcomePayload } from "./testing/fake-agent.js";

interface GoldenFrame {
  readonly name: string;
  readonly from: "client" | "agent";
  readonly type: number;
  readonly channel: number;
  readonly stream: number;
  readonly sequence: number;
  readonly fields?: readonly { readonly tag: number; readonly hex: string }[];
  readonly payloadHex?: string;
  readonly frameHex: string;
}

interface Golden {
  readonly preambleHex: string;
  readonly valid: readonly GoldenFrame[];
  readonly invalid: readonly { name: string; from: "client" | "agent"; hex: string; reason: string }[];
}

const golden = JSON.parse(
  readFileSync(new URL("../../agent/testdata/golden-frames.json", import.meta.url), "utf8"),
) as Golden;
const NAMES = new Map(Object.entries(FRAME_TYPE).map(([name, type]) => [type as number, name as FrameName]));
const NONCE = Buffer.alloc(16, 7);

/** A decoder that has shaken hands and expects this sequence number next. */
function decoderAt(sequence: number): FrameDecoder {
  const decoder = new FrameDecoder(NONCE);
  const payload = welcomePayload(NONCE);
  const header = encodeHeader({ name: "welcome", channel: 0, stream: 0, sequence: 0, payloadBytes: payload.length });
  decoder.push(Buffer.concat([PREAMBLE, header, payload]));
  for (let at = 1; at < sequence; at++) {
    decoder.push(encodeHeader({ name: "end", channel: 1, stream: 1, sequence: at, payloadBytes: 0 }));
  }
  return decoder;
}

function payloadOf(frame: GoldenFrame): Buffer {
  if (frame.fields === undefined) return Buffer.from(frame.payloadHex ?? "", "hex");
  const writer = new FieldWriter();
  for (const { tag, hex } of frame.fields) writer.bytes(tag, Buffer.from(hex, "hex"));
  return writer.finish();
}

test("the preamble is the one of the golden file", () => {
  expect(PREAMBLE.toString("hex")).toBe(golden.preambleHex);
});

test("the golden file has frames of both sides", () => {
  expect(golden.valid.length).toBeGreaterThan(20);
  expect(golden.invalid.length).toBeGreaterThan(15);
});

describe.each(golden.valid)("golden frame: $name", (frame) => {
  const bytes = Buffer.from(frame.frameHex, "hex");
  const payload = payloadOf(frame);

  test("is encoded byte by byte", () => {
    const { channel, stream, sequence } = frame;
    const name = NAMES.get(frame.type)!;
    const header = encodeHeader({ name, channel, stream, sequence, payloadBytes: payload.length });
    expect(Buffer.concat([header, payload]).toString("hex")).toBe(frame.frameHex);
  });

  test("is decoded", () => {
    const { channel, stream, sequence } = frame;
    const name = NAMES.get(frame.type)!;
    expect(decodeHeader(bytes)).toEqual({ name, channel, stream, sequence, payloadBytes: payload.length });
    if (frame.fields === undefined) return;
    const reader = new FieldReader(bytes.subarray(HEADER_BYTES));
    for (const { tag } of frame.fields) {
      const values = frame.fields.filter((one) => one.tag === tag).map(({ hex }) => Buffer.from(hex, "hex"));
      expect(reader.bytes(tag)).toEqual(values[0]);
      expect(reader.texts(tag)).toEqual(values.map((value) => value.toString("utf8")));
    }
  });

  if (frame.from === "agent" && frame.type !== FRAME_TYPE.welcome) {
    test("is accepted from the agent", () => {
      const frames = decoderAt(frame.sequence).push(bytes);
      expect(frames.map(({ name, payload: got }) => [name, got.toString("hex")])).toEqual([
        [NAMES.get(frame.type), payload.toString("hex")],
      ]);
    });
  }

  if (frame.from === "client" && NAMES.get(frame.type) !== "data") {
    const mayBeBoth = frame.type === FRAME_TYPE.end || frame.type === FRAME_TYPE.credit;
    if (!mayBeBoth) {
      test("is refused from the agent", () => {
        const copy = Buffer.from(bytes);
        copy.writeUInt32BE(1, 8);
        expect(() => decoderAt(1).push(copy)).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
      });
    }
  }
});

// What is only wrong for a client to send does not come from an agent.
const refused = golden.invalid.filter(({ from, reason }) => from === "agent" || reason !== "direction");

describe.each(refused)("golden refusal: $name", ({ hex, reason }) => {
  const bytes = Buffer.from(hex, "hex");

  test("is not taken from the agent", () => {
    const copy = Buffer.from(bytes);
    if (copy.length >= 12) copy.writeUInt32BE(1, 8);
    const decoder = decoderAt(1);
    const take = () => {
      const frames = decoder.push(copy);
      for (const frame of frames) if (frame.name !== "data" && frame.name !== "credit") new FieldReader(frame.payload);
      return frames.length;
    };
    if (reason === "truncated") expect(take()).toBe(0);
    else expect(take).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
  });

  if (!["truncated", "direction", "field"].includes(reason)) {
    test("already its header is refused, whoever sends it", () => {
      const header = decodeHeader(bytes);
      // The smaller limit of control payloads holds for the agent only: the decoder knows it, the header does not.
      if (typeof header === "object") expect(header.payloadBytes).toBeGreaterThan(65_536);
      else expect(header).toMatch(/\w/);
    });
  }
});

test("sequence numbers wrap at 2^32", () => {
  expect(nextSequence(0)).toBe(1);
  expect(nextSequence(2 ** 32 - 1)).toBe(0);
});

describe("fields", () => {
  test("numbers must have exactly their size", () => {
    const reader = new FieldReader(new FieldWriter().bytes(1, Buffer.alloc(3)).bytes(2, Buffer.alloc(9)).finish());
    expect(() => reader.u32(1)).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
    expect(() => reader.u64(2)).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
    expect([reader.u32(9), reader.u64(9), reader.text(9), reader.texts(9)]).toEqual([
      undefined,
      undefined,
      undefined,
      [],
    ]);
  });

  test("go through writing and reading", () => {
    const payload = new FieldWriter()
      .u32(1, 0xffff_fffe)
      .u64(2, 2n ** 64n - 1n)
      .text(3, "grüße")
      .texts(4, ["a", "", "b"])
      .flag(5, true)
      .flag(6, false)
      .text(7, undefined)
      .finish();
    const reader = new FieldReader(payload);
    expect(reader.u32(1)).toBe(0xffff_fffe);
    expect(reader.u64(2)).toBe(2n ** 64n - 1n);
    expect(reader.text(3)).toBe("grüße");
    expect(reader.texts(4)).toEqual(["a", "", "b"]);
    expect(reader.bytes(5)).toEqual(Buffer.from([1]));
    expect([reader.bytes(6), reader.bytes(7)]).toEqual([undefined, undefined]);
  });

  test("every cut through a list of fields is refused", () => {
    const payload = new FieldWriter().text(1, "abc").text(2, "de").finish();
    const isWhole = new Set([0, 8, payload.length]);
    for (let size = 0; size <= payload.length; size++) {
      const read = () => new FieldReader(payload.subarray(0, size));
      if (isWhole.has(size)) expect(read).not.toThrow();
      else expect(read).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
    }
  });
});
