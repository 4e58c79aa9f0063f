import fc from "fast-check";
import { expect, test } from "vitest";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { readTar } from "./tar.js";
import { extendedHeader, releaseEntries, type TarEntry, tar, tarEntry } from "./testing/archives.js";

const refusal = (why: string) =>
  expect.objectContaining({ code: "TRANSFER_FAILED", message: expect.stringContaining(why) });

test("files come out as they went in, directories and times beside them", () => {
  const files = readTar(
    tar([
      { name: "a/", type: "5" },
      extendedHeader({ mtime: "1.5", uid: "3000000", comment: "x".repeat(200) }),
      { name: "a/empty" },
      { name: "b", prefix: "a/long", content: "x".repeat(513) },
      { name: "old", type: "\0", content: "y" },
      extendedHeader({ comment: "of all" }, "g"),
      { name: "gnu", magic: "ustar  \0", content: "z" },
    ]),
  );
  expect(files.map(({ name, content }) => [name, content.toString()])).toEqual([
    ["a/empty", ""],
    ["a/long/b", "x".repeat(513)],
    ["old", "y"],
    ["gnu", "z"],
  ]);
});

test.each<[string, TarEntry, string]>([
  ["a hard link", { name: "a", type: "1", linkName: "b" }, 'type "1"'],
  ["a symbolic link", { name: "a", type: "2", linkName: "/etc/passwd" }, 'type "2"'],
  ["a character device", { name: "a", type: "3" }, 'type "3"'],
  ["a block device", { name: "a", type: "4" }, 'type "4"'],
  ["a FIFO", { name: "a", type: "6" }, 'type "6"'],
  ["a sparse file of GNU", { name: "a", type: "S" }, 'type "S"'],
  ["a long name of GNU", { name: "a", type: "L", content: "b" }, 'type "L"'],
  ["an absolute name", { name: "/a" }, "leads out"],
  ["a name upwards", { name: "a/../../b" }, "leads out"],
  ["a prefix upwards", { name: "b", prefix: "a/.." }, "leads out"],
  ["another magic", { name: "a", magic: "\0\0\0\0\0\0" }, "not a ustar"],
  ["a binary size", { name: "a", size: "\x80\0\0\0\0\0\0\0\0\0\x01" }, "no octal"],
  ["a negative size", { name: "a", size: "-0000000001\0" }, "no octal"],
  ["a size that is too large", { name: "a", size: "77777777777\0" }, "ends early"],
  ["an extended size", extendedHeader({ size: "1" }), 'sets "size"'],
  ["an extended name", extendedHeader({ path: "../x" }), 'sets "path"'],
  ["an extended link", extendedHeader({ linkpath: "/etc" }), 'sets "linkpath"'],
  ["a sparse file of POSIX", extendedHeader({ "GNU.sparse.major": "1" }), 'sets "GNU.sparse.major"'],
  ["a broken extended header", { name: "a", type: "x", content: "99 mtime=1\n" }, "broken"],
  ["an extended header without a length", { name: "a", type: "x", content: "0 a=b\n" }, "broken"],
  ["an extended header without end", { name: "a", type: "x", content: "x".repeat(17_000) }, "too large"],
])("%s is refused", (_, entry, why) => {
  expect(() => readTar(tar([{ name: "fine" }, entry]))).toThrow(refusal(why));
});

test("a changed header, too many entries and a missing end are refused", () => {
  const changed = tar([{ name: "a" }]);
  changed[0] = 0x62;
  expect(() => readTar(changed)).toThrow(refusal("checksum"));
  const many = Array.from({ length: 1_000 }, (_, i) => ({ name: String(i) }));
  expect(() => readTar(tar(many))).toThrow(refusal("more than 1000"));
  expect(readTar(tar(many.slice(1)))).toHaveLength(999);
  expect(() => readTar(tarEntry({ name: "a" }))).toThrow(refusal("ends early"));
  expect(() => readTar(Buffer.alloc(0))).toThrow(refusal("ends early"));
});

test("whatever is changed in an archive, no name leads out of it, and nothing but a refusal is thrown", () => {
  const good = tar(releaseEntries({ ballastBytes: 1_000 }));
  const change = fc.tuple(fc.nat(good.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 20 }), fc.nat(good.length), (changes, length) => {
      const bad = Buffer.from(good.subarray(0, length));
      for (const [at, byte] of changes) if (at < bad.length) bad[at] = byte;
      try {
        for (const { name } of readTar(bad)) expect(name).not.toMatch(/^\/|(^|\/)\.\.(\/|$)/);
      } catch (error) {
        if (!isSmolVMError(error, "TRANSFER_FAILED")) throw error;
      }
    }),
    { numRuns: 500 },
  );
});
