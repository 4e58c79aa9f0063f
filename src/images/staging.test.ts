import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "./fixtures/scratch.js";
import { sweepStaging, withStaging } from "./staging.js";

test("is gone afterwards, also after a failure", async () => {
  const cacheDir = await scratchDirectory();
  await withStaging(cacheDir, (directory) => writeFile(join(directory, "half"), "x"));
  await expect(withStaging(cacheDir, () => Promise.reject(new Error("stop")))).rejects.toThrow("stop");
  expect(await readdir(join(cacheDir, "staging"))).toEqual([]);
});

test("a sweep removes what dead processes left and nothing else", async () => {
  const cacheDir = await scratchDirectory();
  // A pid beyond the kernel's limit, this pid at another time, and a name that is not ours.
  const dead = ["99999999-0123456789abcdef-1", `${process.pid}-0123456789abcdef-1`, "rubbish"];
  await withStaging(cacheDir, async (own) => {
    for (const name of dead) await mkdir(join(cacheDir, "staging", name, "deep"), { recursive: true });
    await writeFile(join(cacheDir, "staging", "rubbish", "file"), Buffer.alloc(8192, 1));
    expect(await sweepStaging(cacheDir)).toBeGreaterThanOrEqual(8192);
    expect(await readdir(join(cacheDir, "staging"))).toEqual([own.split("/").pop()]);
  });
});

test("a sweep of a cache that does not exist does nothing", async () => {
  expect(await sweepStaging(join(await scratchDirectory(), "none"))).toBe(0);
});
