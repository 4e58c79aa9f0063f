import { describe, expect, it } from "vitest";
import { secondsAsMs, wholeNumber } from "./values.js";

const REFUSED = expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field: "--x" }) });

describe("values of options", () => {
  it("reads whole numbers and nothing else", () => {
    expect(wholeNumber("--x")("2048")).toBe(2048);
    for (const text of ["", "1.5", "-1", "1e3", "0x10", "12 "]) expect(() => wholeNumber("--x")(text)).toThrow(REFUSED);
  });

  it("reads seconds as milliseconds", () => {
    expect(secondsAsMs("--x")("2")).toBe(2000);
    expect(secondsAsMs("--x")("0.25")).toBe(250);
    for (const text of ["0", "-1", "never", "1e9", "99999999"]) expect(() => secondsAsMs("--x")(text)).toThrow(REFUSED);
  });
});
