import { appendFile, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { FileMemory } from "./file-memory.js";
import { scratchDirectory } from "./fixtures/scratch.js";

let path: string;
let memory: FileMemory<string>;
let reads: number;

beforeEach(async () => {
  path = join(await scratchDirectory(), "file");
  await writeFile(path, "one");
  memory = new FileMemory();
  reads = 0;
});

function get(): Promise<string> {
  return memory.get(path, () => {
    reads += 1;
    return readFile(path, "utf8");
  });
}

/** As if a minute had passed since the files were written. */
function later(): void {
  const nowMs = Date.now() + 60_000;
  const clock = vi.spyOn(Date, "now").mockReturnValue(nowMs);
  onTestFinished(() => clock.mockRestore());
}

test("a file is read once", async () => {
  later();
  expect([await get(), await get(), await get()]).toEqual(["one", "one", "one"]);
  expect(reads).toBe(1);
});

test("a file that was just written is read every time", async () => {
  await get();
  await get();
  expect(reads).toBe(2);
});

const changes: Record<string, () => Promise<void>> = {
  "written to": () => appendFile(path, "!"),
  "written to with its size and time as before": async () => {
    const { atime, mtime } = await stat(path);
    await writeFile(path, "two");
    await utimes(path, atime, mtime);
  },
  replaced: async () => {
    await writeFile(`${path}.new`, "two");
    await rename(`${path}.new`, path);
  },
};
test.each(Object.keys(changes))("a file that was %s is read again", async (name) => {
  later();
  await get();
  await changes[name]?.();
  expect(await get()).toBe(await readFile(path, "utf8"));
  expect(reads).toBe(2);
});

test("a file that changed while it was read is read again", async () => {
  later();
  await memory.get(path, async () => {
    const text = await readFile(path, "utf8");
    await writeFile(path, "changed");
    return text;
  });
  expect(await get()).toBe("changed");
});

test("a file that is gone is not remembered", async () => {
  later();
  await get();
  await rm(path);
  await expect(get()).rejects.toMatchObject({ code: "ENOENT" });
});

test("what could not be read is asked for again", async () => {
  later();
  await expect(memory.get(path, () => Promise.reject(new Error("damaged")))).rejects.toThrow("damaged");
  expect(await get()).toBe("one");
});
