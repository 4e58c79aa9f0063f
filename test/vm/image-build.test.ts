// A real image from nothing, in a cache of its own: built once for all who want it, and checked when it is opened.

import { chmodSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Program } from "../support/program.js";
import type { ImageInfo } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { rejection } from "../support/wait.js";

const state = testState();
let cacheDir: string;
let env: Record<string, string>;

beforeAll(() => {
  cacheDir = mkdtempSync(join(tmpdir(), "smolvm-cache-"));
  env = { SMOLVM_CACHE_DIR: cacheDir };
});

afterAll(() => rmSync(cacheDir, { recursive: true, force: true }));

it("is built by one of two processes that need it", { timeout: 600_000 }, async () => {
  await using first = await Program.start({ env });
  await using second = await Program.start({ env: { ...env, SMOLVM_STATE_DIR: join(state.stateDir, "other") } });
  const programs = [first, second];
  const images = (await Promise.all(programs.map((one) => one.call("buildImage", "debian")))) as ImageInfo[];
  expect(images[0]?.digest).toBe(images[1]?.digest);
  const builders = programs.filter(({ events }) => JSON.stringify(events).includes("Installing Debian packages"));
  expect(builders).toHaveLength(1);
  expect(readdirSync(join(cacheDir, "images"))).toEqual([images[0]?.digest]);
  expect(readdirSync(join(cacheDir, "staging"))).toEqual([]);
});

it("is refused once a byte of it was changed, before any VM is made", async () => {
  const [digest = ""] = readdirSync(join(cacheDir, "images"));
  const rootfs = join(cacheDir, "images", digest, "rootfs.ext4");
  chmodSync(rootfs, 0o644);
  writeSync(openSync(rootfs, "r+"), "x", 4096);
  await using program = await Program.start({ env });
  const error = await rejection(program.call("create", state.config()));
  expect(error).toMatchObject({ code: "IMAGE_FAILED", details: { path: rootfs, property: "sha256" } });
  expect(await program.call("list")).toEqual([]);
});
