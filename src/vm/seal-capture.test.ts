import { chmodSync, readFileSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { scratchDirectory } from "../storage/testing/scratch-store.js";
import { sealCapture, verifyCapture } from "./seal-capture.js";

/** Stands in for `ramcopy`, which is built apart from these sources. Its log names each file that it has read. */
const program = vi.hoisted(() => ({ path: "" }));
vi.mock("./helper-programs.js", () => ({ helperPath: () => program.path }));

const FILES = ["devices", "disk.qcow2", "environment.json", "memory"];
const soon = () => Deadline.after(10_000);
let directory: string;

beforeEach(() => {
  directory = scratchDirectory();
  program.path = join(scratchDirectory(), "digest");
  const script = '#!/bin/sh\nshift\nprintf "%s\\n" "$@" >> "$0.log"\nsha256sum "$@" | cut -d" " -f1\n';
  writeFileSync(program.path, script, { mode: 0o755 });
  for (const name of FILES) writeFileSync(join(directory, name), `the ${name}`, { mode: 0o600 });
});

const digested = () => readFileSync(`${program.path}.log`, "utf8").trim().split("\n");
const verify = () => verifyCapture(directory, soon());

test("records size and checksum of each file, and nobody else may read any of it", async () => {
  await sealCapture(directory, soon());
  const manifest = JSON.parse(readFileSync(join(directory, "manifest.json"), "utf8"));
  expect(manifest).toEqual({
    format: 1,
    files: FILES.map((name) => ({
      name,
      sizeBytes: `the ${name}`.length,
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    })),
  });
  expect(new Set(manifest.files.map(({ sha256 }: { sha256: string }) => sha256)).size).toBe(FILES.length);
  for (const name of [...FILES, "manifest.json"]) expect(statSync(join(directory, name)).mode & 0o077).toBe(0);
  await verify();
});

test("reads in full only what it has not seen to be right", async () => {
  await sealCapture(directory, soon());
  const before = digested().length;
  await verify();
  expect(digested()).toHaveLength(before);
  const path = join(directory, "memory");
  utimesSync(path, new Date(), new Date());
  await verify();
  await verify();
  expect(digested().slice(before)).toEqual([path]);
});

test("a capture that lacks a file is not sealed", async () => {
  rmSync(join(directory, "devices"));
  await expect(sealCapture(directory, soon())).rejects.toThrow();
});

describe("damage", () => {
  beforeEach(() => sealCapture(directory, soon()));

  test.each(FILES)("%s: another size, another byte at the same time stamp, missing", async (name) => {
    const path = join(directory, name);
    const { atime, mtime } = statSync(path);
    const write = (text: string) => {
      chmodSync(path, 0o600);
      writeFileSync(path, text);
      utimesSync(path, atime, mtime);
    };
    const failed = (property: string) => ({ code: "SNAPSHOT_FAILED", details: { path, property } });
    write(`THE ${name}`);
    await expect(verify()).rejects.toMatchObject(failed("sha256"));
    truncateSync(path, 3);
    await expect(verify()).rejects.toMatchObject(failed("size in bytes"));
    rmSync(path);
    await expect(verify()).rejects.toMatchObject(failed("size in bytes"));
    writeFileSync(path, `the ${name}`);
    await verify();
  });

  test("of the manifest: no JSON, another format, too few files, too many, a path, missing", async () => {
    const path = join(directory, "manifest.json");
    const manifest = JSON.parse(readFileSync(path, "utf8"));
    chmodSync(path, 0o600);
    const { files } = manifest;
    const [first, ...rest] = files;
    for (const text of [
      "",
      "{",
      "null",
      JSON.stringify({ format: 2, files }),
      JSON.stringify({ format: 1, files: [] }),
      JSON.stringify({ format: 1, files: rest }),
      JSON.stringify({ format: 1, files: [...files, first] }),
      JSON.stringify({ format: 1, files: [{ ...first, name: `../${first.name}` }, ...rest] }),
    ]) {
      writeFileSync(path, text);
      await expect(verify(), text).rejects.toMatchObject({ code: "SNAPSHOT_FAILED", details: { path } });
    }
    rmSync(path);
    await expect(verify()).rejects.toMatchObject({ code: "SNAPSHOT_FAILED", details: { path } });
  });
});
