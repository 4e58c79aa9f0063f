// Boots that fail and guests that end by themselves: what the caller hears, and that nothing is left.

import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { SmolVM, type VMConfig, VmManager } from "../support/smolvm.js";
import { expectNothingLeft, testState } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const state = testState();
let image: { kernelPath: string; rootfsPath: string };
let work: string;

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), "smolvm-broken-"));
  await using manager = new VmManager();
  image = await manager.images.resolve("debian");
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

/** No template is ever made of it: none of its boots succeeds. */
const NEVER_BOOTED: VMConfig = { bootArgs: "smolvm_test=never" };

/** The directory goes with the last boot in it. */
function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

describe("a boot that cannot succeed", () => {
  /** Fails to boot through the facade, and leaves nothing. */
  async function failure(config: VMConfig) {
    const error = await rejection(SmolVM.create(state.config(config)));
    await expectNothingLeft(state.stateDir);
    return error as Error & { code: string; details: { serialTail: string; vmmStderr: string } };
  }

  it("with a kernel that is garbage behind its headers", async () => {
    const kernelPath = join(work, "vmlinux");
    execFileSync("cp", ["--sparse=always", image.kernelPath, kernelPath]);
    const file = openSync(kernelPath, "r+");
    // ud2, from the first segment on: whatever is executed dies at once.
    for (let mib = 2; mib < 8; mib++)
      writeSync(file, Buffer.alloc(1024 * 1024, "0f0b", "hex"), 0, 1024 * 1024, mib * 1024 * 1024);
    closeSync(file);
    const error = await failure({ kernelPath, bootTimeoutMs: 2_000 });
    expect(["BOOT_FAILED", "BOOT_TIMEOUT"]).toContain(error.code);
    expect(typeof error.details.vmmStderr).toBe("string");
  });

  it("with a disk without a file system, and the console tells why", async () => {
    const rootfsPath = join(work, "empty.img");
    writeFileSync(rootfsPath, "");
    truncateSync(rootfsPath, 16 * 1024 * 1024);
    const error = await failure({ rootfsPath, bootTimeoutMs: 10_000 });
    expect(["BOOT_FAILED", "BOOT_TIMEOUT"]).toContain(error.code);
    expect(error.details.serialTail).toMatch(/smolvm-agent: .*vda/);
  });

  it("with a disk that another VM writes to, and the VMM tells why", async () => {
    const rootfsPath = join(work, "shared.img");
    execFileSync("cp", ["--sparse=always", image.rootfsPath, rootfsPath]);
    const config = state.config({ rootfsPath, diskMode: "shared" });
    await using first = await SmolVM.create(config);
    const error = await rejection(SmolVM.create(config));
    expect(error).toMatchObject({ code: "BOOT_FAILED", details: { vmmStderr: expect.stringContaining("lock") } });
    expect((await first.run("touch /root/mine && echo fine")).output).toBe("fine");
    expect(await SmolVM.list()).toHaveLength(1);
  });

  it("in the time given, after a second attempt", async () => {
    const boots = new Set<string>();
    const timer = setInterval(() => {
      for (const name of namesIn(state.runtimeDir)) boots.add(name);
    }, 5);
    try {
      const error = await failure({ ...NEVER_BOOTED, bootTimeoutMs: 200 });
      expect(error).toMatchObject({ code: "BOOT_TIMEOUT", details: { bootTimeoutMs: 200 } });
    } finally {
      clearInterval(timer);
    }
    expect(boots.size).toBe(2);
  });

  it("leaves its VM in state error with the reason, and a later start may succeed", async () => {
    await using manager = new VmManager();
    const id = await manager.create(state.config());
    await manager.start(id);
    await manager.stop(id); // From now on it boots cold.
    expect(await rejection(manager.start(id, { timeoutMs: 150 }))).toMatchObject({ code: "BOOT_TIMEOUT" });
    expect(await manager.info(id)).toMatchObject({ status: "error", failure: { code: "BOOT_TIMEOUT" }, pid: null });
    await manager.start(id);
    expect(await manager.info(id)).toMatchObject({ status: "running", failure: null });
    await manager.delete(id);
  });
});

describe("an abort", () => {
  it.each([0, 100, 400, 900])("%i ms into a boot leaves nothing", async (ms) => {
    const options = { signal: ms === 0 ? AbortSignal.abort() : AbortSignal.timeout(ms) };
    expect(await rejection(SmolVM.create(state.config(NEVER_BOOTED), options))).toMatchObject({ code: "ABORTED" });
    await expectNothingLeft(state.stateDir);
  });
});

describe("a host without QEMU", () => {
  it("says which command installs it, before anything is made", async () => {
    await using program = await Program.start({ env: { PATH: "/nonexistent" } });
    const error = await rejection(program.call("boot", state.config()));
    expect(error).toMatchObject({ code: "HOST_UNSUPPORTED", details: { program: "qemu-system-x86_64" } });
    expect(error).toMatchObject({ hint: expect.stringContaining("apt-get install qemu-system-x86") });
    await program.end();
    await expectNothingLeft(state.stateDir);
  });
});

describe("a guest that ends", () => {
  it("by a panic: the command hears of it, the state is error, the console has the reason, start works again", async () => {
    await using vm = await SmolVM.create(state.config());
    await vm.run("echo before > /root/kept; sync");
    const error = await rejection(vm.run("echo c > /proc/sysrq-trigger; sleep 60"));
    expect(error).toMatchObject({ code: "CHANNEL_CLOSED" });
    await eventually(async () => ((await vm.info()).status === "error" ? true : undefined));
    expect((await vm.info()).failure).toMatchObject({ code: "VMM_ENDED" });
    expect(await vm.logs()).toMatch(/Kernel panic - not syncing: sysrq triggered crash/);
    expect(await rejection(vm.run("true"))).toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
    await vm.start();
    expect((await vm.run("cat /root/kept")).output).toBe("before");
  });

  it("by SIGTERM to its PID 1: the state is stopped, and its disk is whole", async () => {
    await using vm = await SmolVM.create(state.config());
    await vm.run("echo orderly > /root/kept");
    const command = vm.run("kill -TERM 1; sleep 60");
    const outcome = await command.then(
      ({ signal }) => signal,
      (error) => error.code,
    );
    expect(["CHANNEL_CLOSED", "SIGTERM", "SIGKILL"]).toContain(outcome);
    await eventually(async () => ((await vm.info()).status === "running" ? undefined : true));
    expect(await vm.info()).toMatchObject({ status: "stopped", failure: null, pid: null });
    await vm.start();
    expect((await vm.run("cat /root/kept")).output).toBe("orderly");
  });

  it("because its VMM was killed: the next call says so at once, and start works again", async () => {
    await using vm = await SmolVM.create(state.config());
    const running = rejection(vm.run("sleep 60"));
    await vm.run("true");
    process.kill((await vm.info()).pid!, "SIGKILL");
    expect(await running).toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(await rejection(vm.run("true"))).toMatchObject({
      code: expect.stringMatching(/INVALID_STATE|CHANNEL_CLOSED/),
    });
    await eventually(async () => ((await vm.info()).status === "error" ? true : undefined));
    await vm.stop();
    expect(vm.status).toBe("error");
    await vm.start();
    expect((await vm.run("echo back")).output).toBe("back");
  });
});
