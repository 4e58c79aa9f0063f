import { describe, expect, test } from "vitest";
import { OutputBuffer } from "./output-buffer.js";

describe("an output buffer", () => {
  test("keeps what fits, in any pieces", () => {
    for (const pieceBytes of [1, 3, 100]) {
      const buffer = new OutputBuffer(10);
      const text = Buffer.from("0123456789");
      for (let at = 0; at < 10; at += pieceBytes) buffer.push(text.subarray(at, at + pieceBytes));
      expect([buffer.toString(), buffer.isTruncated]).toEqual(["0123456789", false]);
      buffer.push(Buffer.from("x"));
      expect([buffer.toString(), buffer.isTruncated]).toEqual(["0123456789", true]);
    }
  });

  test("leaves out the character that its limit cuts", () => {
    for (const [limit, kept] of [
      [1, "a"],
      [2, "a"],
      [4, "a"],
      [5, "a🐧"],
    ] as const) {
      const buffer = new OutputBuffer(limit);
      buffer.push(Buffer.from("a🐧b"));
      expect([buffer.toString(), buffer.isTruncated]).toEqual([kept, true]);
    }
  });

  test("copies: the guest's buffers are not held", () => {
    const buffer = new OutputBuffer(100);
    const piece = Buffer.from("abc");
    buffer.push(piece);
    piece.fill("x");
    expect(buffer.toString()).toBe("abc");
  });

  test("bytes that are no UTF-8 do not disturb", () => {
    const buffer = new OutputBuffer(100);
    buffer.push(Buffer.from([0x61, 0xff, 0x62]));
    expect(buffer.toString()).toBe("a\ufffdb");
  });
});
