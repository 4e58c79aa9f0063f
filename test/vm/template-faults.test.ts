// Templates that are damaged, of another QEMU, or find no room: never a broken start, and the log says what was wrong.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { testCache } from "../support/cache.js";
import { Program } from "../support/program.js";
import { listTemplates, SmolVM, type VMConfig, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";

const cache = testCache();
const state = testState();
const SMALL: VMConfig = { vcpuCount: 1, memSizeMib: 192 };
let work: string;
/** The template of `SMALL`, and an untouched copy of it. */
let template: string;
let copy: string;

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), "smolvm-faults-"));
  await (await SmolVM.create(state.config(SMALL))).delete();
  [template = ""] = cache.templates();
  copy = join(work, "copy");
  cpSync(template, copy, { recursive: true });
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

/** The template as it was made, whatever a test has done. */
function putBack(): void {
  rmSync(template, { recursive: true, force: true });
  cpSync(copy, template, { recursive: true });
}

type Damage = (directory: string) => void;

/** Changes one byte in the middle, where `memory` and `devices` have data, and keeps the time of writing. */
function alter(path: string): void {
  const { size, mode, atime, mtime } = statSync(path);
  chmodSync(path, 0o600);
  const file = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, Math.floor(size / 2));
  byte[0]! ^= 0x10;
  writeSync(file, byte, 0, 1, Math.floor(size / 2));
  closeSync(file);
  chmodSync(path, mode & 0o777);
  utimesSync(path, atime, mtime);
}

const FILES = ["memory", "devices", "disk.qcow2"] as const;
const truncated =
  (name: string): Damage =>
  (directory) => {
    const path = join(directory, name);
    truncateSync(path, statSync(path).size - 512);
  };
const altered =
  (name: string): Damage =>
  (directory) =>
    alter(join(directory, name));
const missing =
  (name: string): Damage =>
  (directory) =>
    rmSync(join(directory, name));

/** Works: it answers, and its disk is whole. */
async function expectSound(vm: Vm): Promise<void> {
  const said = await vm.run(
    "hostname; sha256sum < /usr/bin/git; sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum < /usr/bin/git",
  );
  const [name, before, after] = said.stdout.trim().split("\n");
  expect({ name, exitCode: said.exitCode, stderr: said.stderr }).toEqual({ name: vm.vmId, exitCode: 0, stderr: "" });
  expect(after).toBe(before);
}

describe("a damaged template that nobody uses", () => {
  beforeEach(putBack);

  it.each<[string, Damage]>([
    ["with its memory truncated", truncated("memory")],
    ["with one byte of its devices altered, at the old time of writing", altered("devices")],
    ["without a manifest", missing("manifest.json")],
  ])("%s is made anew; the VM starts from the new one", async (_name, damage) => {
    const made = statSync(join(template, "disk.qcow2")).ino;
    damage(template);
    await using vm = await SmolVM.create(state.config(SMALL));
    await expectSound(vm);
    const [now] = await listTemplates();
    expect((await vm.info()).startedFrom).toEqual({ kind: "template", id: now?.key });
    expect(cache.templates()).toEqual([template]);
    expect(statSync(join(template, "disk.qcow2")).ino).not.toBe(made);
    expect(await vm.logs()).toMatch(/^smolvm: template [0-9a-f]{12} is damaged: /m);
    expect(cache.staging()).toEqual([]);
  });
});

describe("a damaged template that a VM uses", () => {
  let user: Vm;

  beforeAll(async () => {
    putBack();
    user = await SmolVM.create(state.config(SMALL));
    // What the damage is done to is on its disk and in its memory.
    await user.run("cat /usr/bin/git > /dev/null");
  });

  afterAll(() => user?.delete());

  it.each<[string, Damage]>([
    ...FILES.map((name): [string, Damage] => [`${name} altered, at the old time of writing`, altered(name)]),
    ["devices truncated", truncated("devices")],
    ["disk.qcow2 missing", missing("disk.qcow2")],
  ])("%s: stays, and others boot cold and say so", async (_name, damage) => {
    const aside = join(work, "aside");
    // The running VM keeps its files: they are moved away and back, never written to.
    move(template, aside);
    cpSync(copy, template, { recursive: true });
    damage(template);
    try {
      await using vm = await SmolVM.create(state.config(SMALL));
      await expectSound(vm);
      const { startedFrom, warnings } = await vm.info();
      expect(startedFrom).toEqual({ kind: "boot", id: null });
      expect(warnings).toEqual([expect.stringMatching(/^Booted cold instead of starting from a template: .*in use/)]);
      expect(await vm.logs()).toMatch(/^smolvm: template [0-9a-f]{12} is damaged: /m);
      expect(await vm.logs()).toContain(`smolvm: ${warnings[0]}\n`);
      expect(cache.templates()).toEqual([template]);
    } finally {
      rmSync(template, { recursive: true, force: true });
      move(aside, template);
    }
    await expectSound(user);
  });
});

describe("a template whose checksums are right and which does not start", () => {
  afterEach(putBack);

  /** Makes the manifest agree with what a file holds now, as somebody would who wants to be believed. */
  function reseal(name: string): void {
    const path = join(template, "manifest.json");
    const manifest = JSON.parse(readFileSync(path, "utf8"));
    const content = readFileSync(join(template, name));
    const artefact = manifest.artefacts.find((one: { name: string }) => one.name === name);
    artefact.sizeBytes = content.length;
    artefact.sha256 = createHash("sha256").update(content).digest("hex");
    rmSync(path);
    writeFileSync(path, JSON.stringify(manifest));
    for (const file of readdirSync(template)) if (file.startsWith("verified-")) rmSync(join(template, file));
  }

  it.each<[string, string, (before: Buffer) => Buffer]>([
    ["garbage for its devices", "devices", () => Buffer.alloc(4096, "garbage")],
    ["half of its devices", "devices", (before) => before.subarray(0, before.length / 2)],
    ["nothing in its memory", "memory", (before) => Buffer.alloc(before.length)],
  ])("%s: the VM boots cold, once, and says so", async (_name, file, change) => {
    putBack();
    const path = join(template, file);
    const before = readFileSync(path);
    rmSync(path);
    writeFileSync(path, change(before), { mode: 0o600 });
    reseal(file);
    await using vm = await SmolVM.create(state.config(SMALL));
    await expectSound(vm);
    const { startedFrom, warnings } = await vm.info();
    expect(startedFrom).toEqual({ kind: "boot", id: null });
    expect(warnings).toEqual([
      expect.stringMatching(/^Booted cold instead of starting from a template: template [0-9a-f]{12} did not start: /),
    ]);
    const logs = await vm.logs();
    expect(logs).toContain(`smolvm: ${warnings[0]}\n`);
    expect(logs.match(/smolvm-agent: boot/g)).toHaveLength(1);
  });
});

describe("another QEMU", () => {
  it("has templates of its own, also when it differs in nothing but what it says of itself", async () => {
    const directory = join(work, "bin");
    const real = execFileSync("sh", ["-c", "command -v qemu-system-x86_64"], { encoding: "utf8" }).trim();
    const program = join(directory, basename(real));
    const time = new Date("2026-01-01T00:00:00Z");
    mkdirSync(directory);
    const install = (version: string) => {
      const lines = [
        "#!/bin/sh",
        `[ "$1" = --version ] && exec echo "QEMU emulator version ${version} (test)"`,
        `exec ${real} "$@"`,
      ];
      writeFileSync(program, `${lines.join("\n")}\n`, { mode: 0o755 });
      utimesSync(program, time, time);
    };
    /** A program of its own each time: what one has asked it remembers. */
    const origin = async () => {
      await using user = await Program.start({ env: { PATH: `${directory}:${process.env["PATH"]}` } });
      const id = await user.call("boot", state.config(SMALL));
      const { startedFrom, warnings } = await user.call("info", id);
      expect([(await user.call("exec", id, ["echo", "up"])).output, warnings]).toEqual(["up", []]);
      await user.call("delete", id);
      return { id: startedFrom.id, made: user.progress().includes("Booting once to make a template") };
    };
    install("7.2.98");
    const first = await origin();
    const again = await origin();
    install("7.2.99");
    const other = await origin();
    expect([first.made, again, other.made]).toEqual([true, { id: first.id, made: false }, true]);
    expect(new Set([template.slice(-64), first.id, other.id]).size).toBe(3);
  });
});

function move(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  renameSync(from, to);
}
