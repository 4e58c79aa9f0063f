// Templates: made by the first start of a configuration, used by every later one of the same configuration and of no
// other, listed and removed as images are.

import { execFileSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { testCache } from "../support/cache.js";
import { Program } from "../support/program.js";
import {
  type CreateOptions,
  listTemplates,
  pruneImages,
  removeImage,
  SmolVM,
  type VMConfig,
  VmManager,
} from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { rejection } from "../support/wait.js";

const cache = testCache();
const state = testState();
/** What most of this file starts. */
const SMALL: VMConfig = { vcpuCount: 1, memSizeMib: 192 };
const MAKING = "Booting once to make a template";
const ROOT = resolve(import.meta.dirname, "../..");
let work: string;

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "smolvm-templates-"));
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

/** Starts a VM and tells whether a template was made on the way; `then` decides what becomes of the VM. */
async function start(config: VMConfig, options: CreateOptions = {}) {
  const steps: string[] = [];
  const onProgress = ({ step }: { step: string }) => void steps.push(step);
  const vm = await SmolVM.create(state.config(config), { onProgress, ...options });
  return { vm, made: steps.includes(MAKING), startedFrom: (await vm.info()).startedFrom };
}

/** Whether a start of this would make a template; it is ended as soon as it begins to. */
async function wouldMake(config: VMConfig): Promise<boolean> {
  const abort = new AbortController();
  const onProgress = ({ step }: { step: string }) => {
    if (step === MAKING) abort.abort();
  };
  try {
    await using _vm = await SmolVM.create(state.config(config), { onProgress, signal: abort.signal });
    return false;
  } catch (error) {
    expect(error).toMatchObject({ code: "ABORTED" });
    return true;
  }
}

describe("a configuration's first start", () => {
  it("makes one template for two programs that race, tells it, and both have a VM from it", async () => {
    const programs = await Program.startMany(2);
    const ids = await Promise.all(programs.map((program) => program.call("boot", state.config(SMALL))));
    expect(cache.templates()).toHaveLength(1);
    const makers = programs.filter((program) => program.progress().includes(MAKING));
    expect(makers).toHaveLength(1);
    const infos = await Promise.all(programs.map((program, index) => program.call("info", ids[index]!)));
    const [template] = await listTemplates();
    for (const info of infos) expect(info.startedFrom).toEqual({ kind: "template", id: template?.key });
    for (const [index, program] of programs.entries()) {
      expect((await program.call("run", ids[index]!, "hostname")).output).toBe(ids[index]);
      await program.call("delete", ids[index]!);
      await program.end();
    }
    expect(cache.staging()).toEqual([]);
  });

  it("is followed by starts that use it: here, in another program, after a stop not", async () => {
    const [template] = await listTemplates();
    const fromTemplate = { kind: "template", id: template?.key };
    const { vm, made, startedFrom } = await start(SMALL);
    await using owned = vm;
    expect({ made, startedFrom }).toEqual({ made: false, startedFrom: fromTemplate });
    expect((await owned.info()).warnings).toEqual([]);
    await using other = await Program.start();
    const id = await other.call("boot", state.config(SMALL));
    expect((await other.call("info", id)).startedFrom).toEqual(fromTemplate);
    expect(other.progress()).not.toContain(MAKING);
    await other.call("delete", id);
    // Its disk has gone on without the template's memory.
    await owned.run("echo mine > /root/mine");
    await owned.stop();
    expect(await owned.info()).toMatchObject({ startedFrom: fromTemplate });
    await owned.start();
    expect(await owned.info()).toMatchObject({ startedFrom: { kind: "boot", id: null }, warnings: [] });
    expect((await owned.run("cat /root/mine; cat /run/smolvm/generation")).output).toBe(`mine\n${"0".repeat(20)}`);
    expect(cache.templates()).toHaveLength(1);
  });
});

describe("another template", () => {
  const changes: Record<string, VMConfig> = {
    "memory size": { memSizeMib: 193 },
    "number of vCPUs": { vcpuCount: 2 },
    "boot arguments": { bootArgs: "quiet" },
    "disk size": { diskSizeMib: 2049 },
    network: { network: "user" },
  };
  it.each(Object.keys(changes))("belongs to another %s", async (name) => {
    expect(await wouldMake({ ...SMALL, ...changes[name] })).toBe(true);
  });

  it("does not belong to another name, environment or patience", async () => {
    const same: VMConfig = { vmId: "other", envVars: { A: "b" }, bootTimeoutMs: 29_000, retainDiskOnDelete: false };
    expect(await wouldMake({ ...SMALL, ...same, lifetime: "process" })).toBe(false);
  });

  it("belongs to another kernel, even under the same path", async () => {
    await using manager = new VmManager();
    const kernelPath = join(work, "vmlinux");
    execFileSync("cp", ["--sparse=always", (await manager.images.resolve("debian")).kernelPath, kernelPath]);
    const config = { ...SMALL, kernelPath };
    const first = await start(config);
    expect(first).toMatchObject({ made: true, startedFrom: { kind: "template" } });
    await first.vm.delete();
    expect(await wouldMake(config)).toBe(false);
    appendFileSync(kernelPath, "\0"); // Behind all that is loaded.
    const second = await start(config);
    await using vm = second.vm;
    expect(second).toMatchObject({ made: true, startedFrom: { kind: "template" } });
    expect(second.startedFrom.id).not.toBe(first.startedFrom.id);
    expect((await vm.run("echo runs")).output).toBe("runs");
  });

  it("belongs to another agent", async () => {
    // A package of its own that differs in nothing else. What follows an ELF program in its file is not loaded.
    const checkout = join(work, "checkout");
    cpSync(join(ROOT, "dist"), join(checkout, "dist"), { recursive: true });
    cpSync(join(ROOT, "test/fixtures"), join(checkout, "test/fixtures"), { recursive: true });
    cpSync(join(ROOT, "package.json"), join(checkout, "package.json"));
    symlinkSync(join(ROOT, "node_modules"), join(checkout, "node_modules"));
    const boots = async () => {
      await using program = await Program.start({ checkout });
      const id = await program.call("boot", state.config(SMALL));
      const { startedFrom } = await program.call("info", id);
      await program.call("delete", id);
      return { startedFrom, made: program.progress().includes(MAKING) };
    };
    const same = await boots();
    expect(same.made).toBe(false);
    const [agent = ""] = readdirSync(join(checkout, "dist/programs")).filter((name) => /^agent-[^.]*$/.test(name));
    appendFileSync(join(checkout, "dist/programs", agent), "\0");
    const other = await boots();
    expect(other).toMatchObject({ made: true, startedFrom: { kind: "template" } });
    expect(other.startedFrom.id).not.toBe(same.startedFrom.id);
  });
});

describe("templates in the cache", () => {
  it("are listed with what they are of and what they occupy", async () => {
    const templates = await listTemplates();
    expect(templates.length).toBeGreaterThanOrEqual(3);
    for (const { key, image, facts, createdAt, allocatedBytes, directory } of templates) {
      expect(directory).toBe(join(cache.cacheDir, "templates", key));
      expect(facts).toMatchObject({ backend: "qemu", vcpuCount: "1", memSizeMib: "192", network: "none" });
      expect(Date.parse(createdAt)).toBeLessThanOrEqual(Date.now());
      const files = readdirSync(directory).map((name) => statSync(join(directory, name)));
      const occupied = [statSync(directory), ...files].reduce((sum, { blocks }) => sum + 512 * blocks, 0);
      expect(Math.abs(allocatedBytes - occupied)).toBeLessThanOrEqual(512 * statSync(directory).blocks);
      expect(allocatedBytes).toBeLessThan(files.reduce((sum, { size }) => sum + size, 0));
      if (image !== null) expect(image.name).toBe("debian");
    }
  });

  it("are kept by prune and rm while a VM stands on them, whichever state it is in, and go afterwards", async () => {
    const { vm: running, startedFrom } = await start(SMALL);
    const key = startedFrom.id!;
    const directory = join(cache.cacheDir, "templates", key);
    const unused = cache.templates().filter((path) => path !== directory);
    expect(unused.length).toBeGreaterThanOrEqual(2);
    const expectKept = async () => {
      await pruneImages({ all: true });
      expect(await rejection(removeImage(key.slice(0, 12)))).toMatchObject({ code: "BUSY" });
      expect(await rejection(removeImage("debian"))).toMatchObject({ code: "BUSY" });
      expect(cache.templates()).toEqual([directory]);
    };
    const before = unused.reduce((sum, path) => sum + statSync(join(path, "memory")).blocks * 512, 0);
    const { removed, freedBytes } = await pruneImages();
    expect(removed.map(({ path }) => path)).toEqual(expect.arrayContaining(unused));
    expect(freedBytes).toBeGreaterThanOrEqual(before);
    await expectKept();
    await running.run("echo precious > /root/precious");
    await running.stop();
    await expectKept();
    await running.start();
    expect((await running.run("cat /root/precious")).output).toBe("precious");
    await expectKept();
    await running.delete();
    // The image stays: a name stands for it.
    await removeImage(key.slice(0, 12));
    expect([cache.templates(), existsSync(join(cache.cacheDir, "names/debian.json"))]).toEqual([[], true]);
    expect(await rejection(removeImage(key))).toMatchObject({ code: "IMAGE_NOT_FOUND" });
  });

  it("go with their image", async () => {
    const { vm } = await start(SMALL);
    await vm.delete();
    expect(cache.templates()).toHaveLength(1);
    await removeImage("debian");
    expect(cache.templates()).toEqual([]);
    expect(readdirSync(join(cache.cacheDir, "images"))).toEqual([]);
  });
});
