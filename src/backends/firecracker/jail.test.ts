import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { hasCapabilities } from "./confinement.js";
import { makeJail, mountLine, removeJail, sealJail } from "./jail.js";
import { vmmDirectory } from "./places.js";
import { scratch, soon } from "./testing/machines.js";

const canMount =
  process.platform === "linux" &&
  process.getuid?.() === 0 &&
  hasCapabilities(readFileSync("/proc/self/status", "latin1"));
if (!canMount) console.log("gate: root: a jail takes root with its capabilities");

test("a path is one word of fstab, whatever is in it", () => {
  expect(mountLine("/a b", "/c\td\\e#\n", "bind")).toBe("/a\\040b /c\\011d\\134e\\043\\012 none bind 0 0");
});

test("what is no jail of a runtime directory is not removed", async () => {
  const runtimeDir = scratch();
  const other = scratch();
  symlinkSync(other, vmmDirectory(runtimeDir));
  await expect(removeJail(runtimeDir, soon())).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  expect(existsSync(other)).toBe(true);
});

describe.runIf(canMount)("a jail", () => {
  async function made() {
    const directory = scratch();
    const runtimeDir = join(directory, "run dir");
    mkdirSync(runtimeDir);
    onTestFinished(() => removeJail(runtimeDir, soon()));
    const file = (name: string, mode: number) => {
      const path = join(directory, `${name} of host`);
      writeFileSync(path, name, { mode });
      return path;
    };
    const files = [
      { name: "disk", path: file("disk", 0o600), isWritten: true },
      { name: "kernel", path: file("kernel", 0o444), isWritten: false },
      { name: "memory", path: file("memory", 0o600), isWritten: false },
    ];
    const request = { runtimeDir, jailsDir: join(directory, "jails"), program: process.execPath, files };
    const jail = await makeJail(request, soon());
    return { directory, runtimeDir, jail, files };
  }
  const mounts = () => readFileSync("/proc/self/mountinfo", "utf8");

  test("shows files as they are, or a copy of what others must not read", async () => {
    const { jail, files, directory } = await made();
    const { statSync } = await import("node:fs");
    for (const { name } of files) expect(readFileSync(join(jail.root, name), "utf8")).toBe(name);
    const inode = (path: string) => statSync(path).ino;
    const isSame = files.map(({ name, path }) => inode(join(jail.root, name)) === inode(path));
    expect(isSame).toEqual([true, true, false]);
    expect(files.map(({ name }) => statSync(join(jail.root, name)).uid)).toEqual([jail.uid, 0, jail.uid]);
    expect(mounts()).toContain(directory);
  });

  test("has no mounts on the host, and belongs to root, once it is sealed", async () => {
    const { jail, runtimeDir, directory } = await made();
    await sealJail(jail.root, soon());
    const { statSync } = await import("node:fs");
    expect(mounts()).not.toContain(directory);
    expect(statSync(jail.root)).toMatchObject({ uid: 0, gid: 0, mode: 0o040755 });
    expect(readdirSync(vmmDirectory(runtimeDir))).toContain("disk");
  });

  test("is removed with its mounts, wherever its making ended, and its files stay", async () => {
    const { runtimeDir, directory, files } = await made();
    await removeJail(runtimeDir, soon());
    await removeJail(runtimeDir, soon());
    expect(mounts()).not.toContain(directory);
    expect(readdirSync(join(directory, "jails"))).toEqual([]);
    expect(readdirSync(runtimeDir)).toEqual([]);
    for (const { name, path } of files) expect(readFileSync(path, "utf8")).toBe(name);
  });
});
