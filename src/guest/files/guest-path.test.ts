import { expect, test } from "vitest";
import { PREAMBLE } from "../frame.js";
import { guestPath, linkTarget, shown } from "./guest-path.js";

test("keeps bytes as they are", () => {
  expect(guestPath("/ä/b")).toEqual(Buffer.from("/ä/b"));
  expect(guestPath(new Uint8Array([0x2f, 0xff, 0xfe]))).toEqual(Buffer.from([0x2f, 0xff, 0xfe]));
  expect(guestPath(`/${"x".repeat(4094)}`)).toHaveLength(4095);
  expect(linkTarget("../a")).toEqual(Buffer.from("../a"));
});

test.each([
  ["relative", "a/b"],
  ["empty", ""],
  ["empty bytes", new Uint8Array(0)],
  ["with NUL", "/a\0b"],
  ["too long", `/${"x".repeat(4095)}`],
  ["too long in bytes", `/${"ä".repeat(2048)}`],
  ["with the preamble", Buffer.concat([Buffer.from("/"), PREAMBLE])],
  ["with all of the preamble but its first byte", Buffer.concat([Buffer.from("/"), PREAMBLE.subarray(1)])],
  ["no path", 5],
  ["nothing", undefined],
])("refuses one that is %s", (_, path) => {
  expect(() => guestPath(path as string, "guestPath")).toThrow(
    expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field: "guestPath" }) }),
  );
});

test("is shown as text", () => {
  expect([shown("/a"), shown(Buffer.from("/ä")), shown(5)]).toEqual(["/a", "/ä", "5"]);
});
