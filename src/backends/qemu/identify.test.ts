import { chmod, mkdtemp, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { identifyQemu } from "./identify.js";

const ample = () => Deadline.after(5_000);

/** A program that says its version, and counts how often it was asked. */
async function fakeQemu() {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-identify-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const program = join(directory, "qemu");
  const write = async (path: string, version: string) => {
    await writeFile(path, `#!/bin/sh\necho "$1" >> ${directory}/asked\necho "Emulator ${version}"\necho more\n`);
    await chmod(path, 0o755);
    await utimes(path, 1_000_000, 1_000_000);
  };
  await write(program, "1.0");
  const asked = async () => (await readFile(join(directory, "asked"), "utf8")).trim().split("\n");
  return { program, write, asked };
}

test("asks a program once, and names it so that one can read it", async () => {
  const { program, asked } = await fakeQemu();
  const name = await identifyQemu(program, ample());
  expect(name).toMatch(/^Emulator 1\.0, \d+ bytes of 1970-01-12T13:46:40\.000Z$/);
  expect(await identifyQemu(program, ample())).toBe(name);
  expect(await asked()).toEqual(["--version"]);
});

test("another file in its place is asked, even if it is as large and as old", async () => {
  const { program, write, asked } = await fakeQemu();
  const name = await identifyQemu(program, ample());
  await write(`${program}.new`, "1.1");
  await rename(`${program}.new`, program);
  const other = await identifyQemu(program, ample());
  expect(other).toContain("Emulator 1.1");
  expect(other).not.toBe(name);
  expect(await asked()).toHaveLength(2);
});

test("the same version in another file has another name", async () => {
  const { program } = await fakeQemu();
  const name = await identifyQemu(program, ample());
  await utimes(program, 2_000_000, 2_000_000);
  expect(await identifyQemu(program, ample())).not.toBe(name);
});

test("one that is not there", async () => {
  await expect(identifyQemu("/nonexistent/qemu", ample())).rejects.toMatchObject({ code: "HOST_UNSUPPORTED" });
});
