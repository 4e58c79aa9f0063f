import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { FieldWriter } from "../fields.js";
import { directory, encodeParts, encodeTree, file, leftOut, link, rawRecord } from "../testing/trees.js";
import { type DecodedRecord, TreeDecoder } from "./tree-decoder.js";
import { encodeEnd } from "./tree-record.js";
import { TreeRules } from "./tree-rules.js";

function decode(bytes: Buffer, step = bytes.length || 1): DecodedRecord[] {
  const decoder = new TreeDecoder();
  const records: DecodedRecord[] = [];
  for (let from = 0; from < bytes.length; from += step) {
    for (const record of decoder.push(bytes.subarray(from, from + step))) records.push(record);
  }
  return records;
}

/** Pieces of content joined where they follow each other. */
function joined(records: readonly DecodedRecord[]): unknown[] {
  const all: (Record<string, unknown> & { end?: number })[] = [];
  for (const record of records) {
    const last = all.at(-1);
    if (record.kind === "content" && last?.end === record.offset) {
      last["text"] += record.data.toString();
      last.end = record.offset + record.data.length;
    } else if (record.kind === "content") {
      all.push({ offset: record.offset, text: record.data.toString(), end: record.offset + record.data.length });
    } else {
      all.push({ ...record });
    }
  }
  return all;
}

const PARTS = [
  directory("", 0o700),
  file("a\xff", 9),
  [0, "abc"],
  [5, "fg"],
  link("l", "a\xff"),
  leftOut("s", 12),
  file("empty", 0),
] as const;

test("gives what was encoded, however it is cut", () => {
  const bytes = encodeTree(PARTS);
  const whole = joined(decode(bytes));
  expect(whole).toEqual([
    PARTS[0],
    PARTS[1],
    { offset: 0, text: "abc", end: 3 },
    { offset: 5, text: "fg", end: 7 },
    PARTS[4],
    PARTS[5],
    PARTS[6],
    { kind: "end" },
  ]);
  for (const step of [1, 2, 3, 5, 13, 64]) expect(joined(decode(bytes, step))).toEqual(whole);
});

test("times before 1970 are times before 1970", () => {
  const record = { ...directory(""), mtimeNs: -5n };
  expect(decode(encodeParts([record]))).toEqual([record]);
});

test("content is given as it comes, never gathered", () => {
  const bytes = encodeParts([[7, Buffer.alloc(262_144)]]);
  const decoder = new TreeDecoder();
  expect([...decoder.push(bytes.subarray(0, 113))]).toMatchObject([{ offset: 7, data: { length: 100 } }]);
  expect([...decoder.push(bytes.subarray(113, 114))]).toMatchObject([{ offset: 107, data: { length: 1 } }]);
});

test("is complete with its end alone", () => {
  const decoder = new TreeDecoder();
  const bytes = encodeTree([directory("")]);
  for (const _ of decoder.push(bytes.subarray(0, -1))) expect(decoder.isComplete).toBe(false);
  expect([...decoder.push(bytes.subarray(-1)), decoder.isComplete]).toEqual([{ kind: "end" }, true]);
});

const time = (fields: FieldWriter) => fields.u64(3, 1n);

describe("refuses", () => {
  test.each([
    ["a type of 0", rawRecord(0, Buffer.from([1]))],
    ["an unknown type", rawRecord(7, Buffer.from([1]))],
    ["a length that is never sent, at once", rawRecord(1, Buffer.alloc(0), 2 ** 32 - 1)],
    ["an empty record", rawRecord(1, Buffer.alloc(0))],
    ["content without content", rawRecord(3, Buffer.alloc(8))],
    ["content without all of its offset", rawRecord(3, Buffer.alloc(5))],
    ["too much content, at once", rawRecord(3, Buffer.alloc(0), 8 + 262_145)],
    ["an offset beyond all numbers", rawRecord(3, Buffer.alloc(9, 0xff))],
    ["fields that are none", rawRecord(1, Buffer.from([1, 0, 0, 0, 9, 1]))],
    ["a directory without a path", rawRecord(1, time(new FieldWriter().u32(2, 0)))],
    ["a directory without a mode", rawRecord(1, time(new FieldWriter().text(1, "")))],
    ["a directory without a time", rawRecord(1, new FieldWriter().text(1, "").u32(2, 0))],
    ["a mode of two bytes", rawRecord(1, time(new FieldWriter().text(1, "").bytes(2, Buffer.alloc(2))))],
    ["a file without a size", rawRecord(2, time(new FieldWriter().text(1, "").u32(2, 0)))],
    ["a size beyond all numbers", rawRecord(2, time(new FieldWriter().text(1, "").u32(2, 0)).u64(4, 2n ** 53n))],
    ["a link without a target", rawRecord(4, time(new FieldWriter().text(1, "")))],
    ["something left out without a type", rawRecord(5, new FieldWriter().text(1, ""))],
    ["something left out with an empty type", rawRecord(5, new FieldWriter().text(1, "").text(6, ""))],
    ["an end without a count", rawRecord(6, new FieldWriter().text(1, ""))],
    ["an end that counts too few", Buffer.concat([encodeParts([directory("")]), encodeEnd(0)])],
    ["an end that counts too many", Buffer.concat([encodeParts([directory("")]), encodeEnd(2)])],
    ["something after the end", Buffer.concat([encodeTree([directory("")]), Buffer.from([1])])],
  ])("%s", (_, bytes) => {
    expect(() => decode(bytes)).toThrow(expect.objectContaining({ code: "TRANSFER_FAILED" }));
    expect(() => decode(bytes, 1)).toThrow(expect.objectContaining({ code: "TRANSFER_FAILED" }));
  });
});

test("gives records that keep the rules, or TRANSFER_FAILED, for whatever comes", () => {
  const whole = encodeTree(PARTS);
  const damaged = fc
    .array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
    .map((changes) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
  const noise = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(damaged, noise), fc.integer({ min: 1, max: 40 }), (bytes, step) => {
      try {
        const rules = new TreeRules({ contentBytes: 1000 });
        for (const record of decode(bytes, step)) {
          rules.check(record);
          if ("path" in record) expect(`/${record.path}/`).not.toMatch(/\/\.{1,2}\/|\0/);
        }
      } catch (error) {
        expect(isSmolVMError(error, "TRANSFER_FAILED")).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});
