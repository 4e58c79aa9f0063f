import { expect, test } from "vitest";
import { FieldReader, type FieldWriter } from "../fields.js";
import { statFields } from "../testing/file-agent.js";
import { GuestDirent } from "./guest-dirent.js";
import { GuestStats } from "./guest-stats.js";

const read = (fields: FieldWriter) => new GuestStats(new FieldReader(fields.finish()));

test("has what Stats of Node.js has", () => {
  const stats = read(statFields());
  expect(stats).toMatchObject({ mode: 0o100644, size: 5, uid: 1, gid: 2, nlink: 3, dev: 7, blocks: 8, rdev: 9 });
  expect(stats).toMatchObject({ blksize: 4096, ino: 2 ** 60, mtimeMs: 1.5, atimeMs: -1 });
  expect([stats.mtime, stats.atime, stats.birthtime]).toEqual([new Date(1.5), new Date(-1), stats.ctime]);
  expect(stats.ctimeMs).toBeCloseTo(1_700_000_000_123.456, 2);
});

test.each([
  [0o100000, "isFile"],
  [0o040000, "isDirectory"],
  [0o120000, "isSymbolicLink"],
  [0o010000, "isFIFO"],
  [0o140000, "isSocket"],
  [0o060000, "isBlockDevice"],
  [0o020000, "isCharacterDevice"],
] as const)("mode 0%o answers %s alone", (mode, name) => {
  const questions = [
    "isFile",
    "isDirectory",
    "isSymbolicLink",
    "isFIFO",
    "isSocket",
    "isBlockDevice",
    "isCharacterDevice",
  ] as const;
  for (const kind of [read(statFields({ mode })), new GuestDirent("x", "/", mode >>> 12)]) {
    expect(questions.filter((one) => kind[one]())).toEqual([name]);
  }
});

test.each([20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32])("refuses stats without field %i", (without) => {
  expect(() => read(statFields({ without }))).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
});

test("refuses a size that nobody can calculate with", () => {
  expect(() => read(statFields({ size: 2n ** 63n }))).toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
});

test("an entry knows where it is", () => {
  const dirent = new GuestDirent("x", "/a", 8);
  expect([dirent.name, dirent.parentPath, dirent.path, Object.keys(dirent)]).toEqual([
    "x",
    "/a",
    "/a",
    ["name", "parentPath"],
  ]);
});
