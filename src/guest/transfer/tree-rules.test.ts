import { describe, expect, test } from "vitest";
import { directory, file, leftOut, link } from "../testing/trees.js";
import type { DecodedRecord } from "./tree-decoder.js";
import { TreeRules } from "./tree-rules.js";

const content = (offset: number, text: string): DecodedRecord => ({ kind: "content", offset, data: Buffer.from(text) });
const end: DecodedRecord = { kind: "end" };

function check(
  records: readonly DecodedRecord[],
  limits: { readonly entries?: number; readonly pathBytes?: number } = {},
) {
  const rules = new TreeRules({ contentBytes: 20, ...limits });
  for (const record of records) rules.check(record);
}

test.each<[string, DecodedRecord[]]>([
  ["a file alone", [file("", 3), content(0, "abc"), end]],
  ["an empty file", [file("", 0), end]],
  ["a file that is one hole", [file("", 10), end]],
  ["content with holes", [file("", 20), content(2, "ab"), content(4, "cd"), content(19, "x"), end]],
  ["directories in any order", [directory(""), directory("a"), directory("b"), file("a/x", 0), file("b/x", 0), end]],
  ["links", [directory(""), link("a", "anything"), directory("d"), link("d/b", "../a"), end]],
  ["names that only look like dots", [directory(""), file("...", 0), file("..a", 0), file(" ", 0), end]],
  ["the longest name", [directory(""), file("n".repeat(255), 0), end]],
])("takes %s", (_, records) => {
  expect(() => check(records)).not.toThrow();
});

describe("refuses", () => {
  const root = directory("");
  test.each<[string, DecodedRecord[]]>([
    ["nothing at all", [end]],
    ["content before everything", [content(0, "a")]],
    ["a tree that does not begin with its root", [directory("a")]],
    ["a second root", [root, directory("")]],
    ["a second root that is a file", [root, file("", 0)]],
    ["a root that is a link", [link("", "a")]],
    ["something below a file", [file("", 0), file("a", 0)]],
    ["something below a file that is in it", [root, file("a", 0), file("a/b", 0)]],
    ["something below a link", [root, link("a", "b"), file("a/b", 0)]],
    ["something below what was left out", [root, leftOut("a", 4), file("a/b", 0)]],
    ["something in a directory that did not come", [root, file("a/b", 0)]],
    ["something in a directory that comes later", [root, file("a/b", 0), directory("a")]],
    ["a name twice", [root, file("a", 0), file("a", 0)]],
    ["a file in the place of a link", [root, link("a", "b"), file("a", 0)]],
    ["a directory in the place of a link", [root, link("a", "b"), directory("a")]],
    ["a file in the place of what was left out", [root, leftOut("a", 1), file("a", 0)]],
    ["the parent", [root, file("..", 0)]],
    ["the parent's file", [root, file("../a", 0)]],
    ["the parent further down", [root, directory("a"), file("a/..", 0)]],
    ["the directory itself", [root, file(".", 0)]],
    ["an absolute path", [root, file("/etc/passwd", 0)]],
    ["a double slash", [root, directory("a"), file("a//b", 0)]],
    ["a slash at the end", [root, directory("a/")]],
    ["NUL", [root, file("a\0b", 0)]],
    ["a name of 256 bytes", [root, file("n".repeat(256), 0)]],
    ["a mode with more than permissions", [root, file("a", 0, 0o4755)]],
    ["a directory's mode with more than permissions", [directory("", 0o1777)]],
    ["a link that leads outside", [root, link("a", "../b")]],
    ["an absolute link", [root, link("a", "/etc")]],
    ["a link that climbs after a name", [root, directory("d"), link("d/a", "x/../../..")]],
    ["content after a directory", [root, content(0, "a")]],
    ["content after a link", [root, file("f", 1), link("a", "b"), content(0, "a")]],
    ["content beyond the size", [file("", 3), content(0, "abcd")]],
    ["content that begins beyond the size", [file("", 3), content(3, "a")]],
    ["content that overlaps what came", [file("", 9), content(0, "abc"), content(2, "x")]],
    ["content that goes back", [file("", 9), content(5, "abc"), content(0, "x")]],
    ["content after the end", [root, file("a", 3), end, content(0, "a")]],
    [
      "more content than the limit",
      [root, file("a", 15), content(0, "x".repeat(15)), file("b", 6), content(0, "123456")],
    ],
  ])("%s", (_, records) => {
    expect(() => check(records)).toThrow(expect.objectContaining({ code: "TRANSFER_FAILED" }));
  });

  test("a path of 4096 bytes", () => {
    const records: DecodedRecord[] = [root];
    let path = "";
    while (path.length < 3900) {
      path += `${path === "" ? "" : "/"}${"d".repeat(199)}`;
      records.push(directory(path));
    }
    expect(() => check([...records, file(`${path}/${"f".repeat(4094 - path.length)}`, 0)])).not.toThrow();
    expect(() => check([...records, file(`${path}/${"f".repeat(4095 - path.length)}`, 0)])).toThrow(
      expect.objectContaining({ code: "TRANSFER_FAILED" }),
    );
  });

  test("more entries, or bytes of paths, than can be held", () => {
    const records = [root, ...["a1", "a2", "a3"].map((path) => leftOut(path, 1))];
    const refused = expect.objectContaining({ code: "TRANSFER_FAILED" });
    expect(() => check(records, { entries: 4, pathBytes: 6 })).not.toThrow();
    expect(() => check(records, { entries: 3 })).toThrow(refused);
    expect(() => check(records, { pathBytes: 5 })).toThrow(refused);
  });
});
