import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findProgram } from "../host/find-program.js";
import { runProgram } from "../host/process.js";
import { type CpioEntry, cpioArchive, padToFour } from "./cpio.js";

const hasCpio = findProgram("cpio") !== undefined;
if (!hasCpio) console.log("gate: cpio: it is not installed");

const entries: CpioEntry[] = [
  { type: "directory", name: "smolvm" },
  { type: "file", name: "smolvm/modules", data: Buffer.from("virtio_blk\n") },
  { type: "file", name: "init", data: Buffer.from("abc"), executable: true },
];

test("writes the newc header fields in hexadecimal, name and data padded to four bytes", () => {
  const archive = cpioArchive([{ type: "file", name: "init", data: Buffer.from("abc"), executable: true }]);
  expect(archive.toString("latin1", 0, 110)).toBe(
    ["070701", "00000001", "000081ed", "00000000", "00000000", "00000001", "00000000", "00000003"].join("") +
      ["00000000", "00000000", "00000000", "00000000", "00000005", "00000000"].join(""),
  );
  expect(archive.toString("latin1", 110, 120)).toBe("init\0\0abc\0");
  expect(archive.length % 4).toBe(0);
  expect(archive.includes("TRAILER!!!\0")).toBe(true);
});

test("gives the same bytes for the same entries", () => {
  expect(cpioArchive(entries).equals(cpioArchive(entries))).toBe(true);
});

test("pads with zeros, and only when needed", () => {
  expect([...padToFour(Buffer.from([1]))]).toEqual([1, 0, 0, 0]);
  expect(padToFour(Buffer.alloc(8))).toHaveLength(8);
});

test.skipIf(!hasCpio)("can be read by cpio(1)", async () => {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-cpio-"));
  try {
    await runProgram(["cpio", "--extract", "--quiet", "--no-preserve-owner"], {
      cwd: directory,
      stdin: cpioArchive(entries),
    });
    const { stdout } = await runProgram(["find", ".", "-mindepth", "1", "-printf", "%P %m %s\n", "-type", "f"], {
      cwd: directory,
    });
    expect(stdout.split("\n")).toEqual(expect.arrayContaining(["smolvm/modules 644 11", "init 755 3"]));
  } finally {
    await rm(directory, { recursive: true });
  }
});
