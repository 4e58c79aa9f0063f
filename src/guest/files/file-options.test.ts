import { expect, test } from "vitest";
import { checkPosition, flagBits, nameEncoding, parseMode } from "./file-options.js";
import { fileTime } from "./file-time.js";

const invalid = (field: string) =>
  expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) });

test("modes are numbers or octal digits", () => {
  expect([undefined, 0o644, "644", "0644", "0o4755", 0].map((mode) => parseMode(mode))).toEqual([
    ...[undefined, 0o644, 0o644, 0o644, 0o4755, 0],
  ]);
  for (const mode of [-1, 1.5, Number.NaN, 0o10000, "8", "", "0x1", "77777", {}, null]) {
    expect(() => parseMode(mode as never)).toThrow(invalid("mode"));
  }
});

test("flags are those of Node.js", () => {
  expect((["w", "a", "wx", "ax", "r+", undefined] as const).map((flag) => flagBits(flag, "flag"))).toEqual([
    ...[0, 1, 2, 3, 12, 0],
  ]);
  for (const flag of ["r", "w+", "toString", 5, null, ["w"]])
    expect(() => flagBits(flag as never, "flags")).toThrow(invalid("flags"));
});

test("encodings are those of Node.js, and buffer for names", () => {
  expect([nameEncoding(undefined), nameEncoding("latin1"), nameEncoding("buffer")]).toEqual([
    "utf8",
    "latin1",
    undefined,
  ]);
  expect(() => nameEncoding("klingon")).toThrow(invalid("encoding"));
});

test("positions are whole", () => {
  expect([checkPosition("start", 0), checkPosition("start", undefined)]).toEqual([0, undefined]);
  for (const start of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, "0"]) {
    expect(() => checkPosition("start", start as never)).toThrow(invalid("start"));
  }
});

test("times are seconds or dates, before 1970 too", () => {
  const times = [0, 1.5, "2.5", new Date(1), new Date(-1), -0.000001, 1_700_000_000.123456];
  expect(times.map((time) => BigInt.asIntN(64, fileTime("atime", time)))).toEqual([
    ...[0n, 1_500_000_000n, 2_500_000_000n, 1_000_000n, -1_000_000n, -1000n, 1_700_000_000_123_456_000n],
  ]);
  for (const time of [Number.NaN, Number.POSITIVE_INFINITY, 1e10, -1e10, "", "soon", new Date(Number.NaN), null]) {
    expect(() => fileTime("atime", time as never)).toThrow(invalid("atime"));
  }
});
