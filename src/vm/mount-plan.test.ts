import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { scratchDirectory } from "../storage/testing/scratch-store.js";
import { checkMounts, requireMounts } from "./mount-plan.js";

/** A directory with a directory, a file and a link to each. */
function place(): string {
  const directory = scratchDirectory();
  mkdirSync(join(directory, "real"));
  writeFileSync(join(directory, "file"), "");
  symlinkSync("real", join(directory, "link"));
  return directory;
}

describe("checkMounts", () => {
  it("gives real paths, read-only unless asked otherwise, outer ones first", async () => {
    const directory = place();
    const hostPath = join(directory, "link");
    const real = join(directory, "real");
    const asked = [
      { hostPath, guestPath: "/data/inner/deep" },
      { hostPath, guestPath: "/data", writable: true },
      { hostPath: real, guestPath: "/other" },
    ];
    expect(await checkMounts(asked)).toEqual([
      { hostPath: real, guestPath: "/data", writable: true },
      { hostPath: real, guestPath: "/other", writable: false },
      { hostPath: real, guestPath: "/data/inner/deep", writable: false },
    ]);
  });

  it.each([
    "",
    "relative",
    "/",
    "/a/",
    "/a//b",
    "/a/./b",
    "/a/../b",
    "//a",
    "/proc",
    "/sys/x",
    "/dev/shm",
    "/run/smolvm",
  ])("refuses the guest path %j", async (guestPath) => {
    const hostPath = place();
    await expect(checkMounts([{ hostPath, guestPath }])).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "mounts[0].guestPath" },
    });
  });

  it.each(["missing", "file", "file/x"])("refuses the host path %j", async (name) => {
    const directory = place();
    const good = { hostPath: directory, guestPath: "/a" };
    await expect(checkMounts([good, { hostPath: join(directory, name), guestPath: "/b" }])).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "mounts[1].hostPath" },
    });
  });

  it("refuses a guest path that is taken", async () => {
    const hostPath = place();
    const twice = [1, 2].map(() => ({ hostPath, guestPath: "/a" }));
    await expect(checkMounts(twice)).rejects.toMatchObject({ details: { field: "mounts[1].guestPath" } });
  });
});

describe("requireMounts", () => {
  it("passes what is there and names what is gone, no directory, or a link by now", async () => {
    const directory = place();
    const hostPath = join(directory, "real");
    const mounts = [{ hostPath, guestPath: "/a", writable: false }];
    const failing = () => expect(requireMounts("vm", mounts)).rejects;
    await requireMounts("vm", mounts);
    renameSync(hostPath, join(directory, "away"));
    await failing().toMatchObject({ code: "MOUNT_FAILED", details: { vmId: "vm", hostPath, guestPath: "/a" } });
    symlinkSync("away", hostPath);
    await failing().toMatchObject({ code: "MOUNT_FAILED", message: expect.stringContaining("link") });
    rmSync(hostPath);
    writeFileSync(hostPath, "");
    await failing().toMatchObject({ code: "MOUNT_FAILED", message: expect.stringContaining("no directory") });
  });
});
