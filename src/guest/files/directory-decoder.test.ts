import fc from "fast-check";
import { expect, test } from "vitest";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { entry } from "../testing/file-agent.js";
import { DirectoryDecoder } from "./directory-decoder.js";

test("gives the entries however they are cut", () => {
  const bytes = Buffer.concat([entry(8, "a"), entry(4, Buffer.from([0xff])), entry(10, "n".repeat(255))]);
  for (const step of [1, 2, 3, 7, bytes.length]) {
    const decoder = new DirectoryDecoder();
    for (let from = 0; from < bytes.length; from += step) decoder.push(bytes.subarray(from, from + step));
    expect(decoder.finish()).toEqual([
      { type: 8, name: Buffer.from("a") },
      { type: 4, name: Buffer.from([0xff]) },
      { type: 10, name: Buffer.from("n".repeat(255)) },
    ]);
  }
});

test.each([
  ["an empty name", entry(8, "")],
  [".", entry(4, ".")],
  ["..", entry(4, "..")],
  ["a slash", entry(8, "a/b")],
  ["NUL", entry(8, "a\0")],
  ["a name of 256 bytes", entry(8, "n".repeat(256))],
  ["a cut entry", entry(8, "abc").subarray(0, 4)],
  ["a cut header", Buffer.from([8, 0])],
])("refuses %s", (_, bytes) => {
  const read = () => {
    const decoder = new DirectoryDecoder();
    decoder.push(bytes);
    decoder.finish();
  };
  expect(read).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
});

test("takes names that only look like dots, and no more than the limit", () => {
  const budget = { left: 3 };
  const decoder = new DirectoryDecoder(budget);
  decoder.push(Buffer.concat([entry(8, "..."), entry(8, ".a")]));
  expect(decoder.finish()).toHaveLength(2);
  // Directories of one listing count together.
  const other = new DirectoryDecoder(budget);
  other.push(entry(8, "b"));
  for (const one of [decoder, other]) {
    expect(() => one.push(entry(8, "c"))).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
  }
});

test("gives entries or PROTOCOL_ERROR for whatever comes", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }), (chunks) => {
      const decoder = new DirectoryDecoder();
      try {
        for (const chunk of chunks) decoder.push(Buffer.from(chunk));
        for (const { name } of decoder.finish()) expect(name.includes(0x2f)).toBe(false);
      } catch (error) {
        expect(isSmolVMError(error, "PROTOCOL_ERROR")).toBe(true);
      }
    }),
    { numRuns: 300 },
  );
});
