import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { copyDisk } from "./disk-copy.js";
import { scratch, soon } from "./testing/machines.js";

function original(directory: string): string {
  const path = join(directory, "from");
  writeFileSync(path, "head", { mode: 0o600 });
  truncateSync(path, 64 * 2 ** 20);
  const file = openSync(path, "r+");
  writeSync(file, "middle", 32 * 2 ** 20);
  closeSync(file);
  return path;
}

test("is private, the same, has its holes, and grows", async () => {
  const directory = scratch();
  const from = original(directory);
  const to = join(directory, "to");
  await copyDisk({ from, to, sizeBytes: 100 * 2 ** 20 }, soon());
  const { size, blocks, mode } = statSync(to);
  expect([size, mode & 0o777]).toEqual([100 * 2 ** 20, 0o600]);
  expect(blocks * 512).toBeLessThan(2 ** 20);
  expect(
    readFileSync(to)
      .subarray(0, 64 * 2 ** 20)
      .equals(readFileSync(from)),
  ).toBe(true);
});

test("is never made smaller, and writable also when its original is not", async () => {
  const directory = scratch();
  const from = join(directory, "from");
  writeFileSync(from, "0123456789", { mode: 0o444 });
  await copyDisk({ from, to: join(directory, "to"), sizeBytes: 4 }, soon());
  expect(statSync(join(directory, "to"))).toMatchObject({ size: 10, mode: 0o100600 });
});

test("what is there already stays as it is", async () => {
  const directory = scratch();
  const [from, to] = [join(directory, "from"), join(directory, "to")];
  writeFileSync(from, "new");
  writeFileSync(to, "old");
  await expect(copyDisk({ from, to }, soon())).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  expect(readFileSync(to, "utf8")).toBe("old");
});

test("a copy that fails leaves nothing", async () => {
  const directory = scratch();
  const to = join(directory, "to");
  const gone = copyDisk({ from: join(directory, "gone"), to }, soon());
  await expect(gone).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  expect(existsSync(to)).toBe(false);
  const aborted = copyDisk({ from: original(directory), to }, Deadline.after(1_000, AbortSignal.abort()));
  await expect(aborted).rejects.toMatchObject({ code: "ABORTED" });
  expect(existsSync(to)).toBe(false);
});
