// The life of a VM through the facade: every state, every legal and illegal change, who may hold it.

import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { SmolVM, VmManager, type VmStatus } from "../support/smolvm.js";
import { expectNothingLeft, testState, vmmPids } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";

const state = testState();

describe("start and stop", () => {
  it("keeps the disk over stop and start, and boots anew each time", async () => {
    const vm = await SmolVM.create(state.config({ vmId: "again" }));
    const bootId = "cat /proc/sys/kernel/random/boot_id";
    const first = await vm.run(`hostname; echo precious > /root/kept; ${bootId}`);
    expect(first.stdout).toMatch(/^again\n/);
    await vm.stop();
    await vm.stop();
    expect([vm.status, (await vm.info()).pid]).toEqual(["stopped", null]);
    expect(vmmPids(state.runtimeDir)).toEqual([]);
    expect(await rejection(vm.run("true"))).toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
    await vm.start();
    await vm.start();
    const second = await vm.run(`cat /root/kept; ${bootId}`);
    expect(second.stdout).toMatch(/^precious\n/);
    expect(second.stdout.split("\n")[1]).not.toBe(first.stdout.split("\n")[1]);
    await vm.stop();
    await vm.delete();
    await vm.delete();
    await expectNothingLeft(state.stateDir);
  });

  it("makes nothing before start() in the two-step form, and says so", async () => {
    await using vm = new SmolVM(state.config());
    expect([vm.status, await SmolVM.list()]).toEqual(["created", []]);
    for (const call of [
      () => vm.run("true"),
      () => vm.exec(["true"]),
      () => vm.pause(),
      () => vm.resume(),
      () => vm.info(),
    ]) {
      const error = await rejection(call());
      expect(error).toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
      expect(error.message).toContain("start()");
    }
    await vm.stop();
    await vm.delete();
    await vm.start();
    expect((await vm.run("echo here")).output).toBe("here");
    expect((await SmolVM.list()).map(({ vmId }) => vmId)).toEqual([vm.vmId]);
  });

  it("deletes an owned VM at the end of the scope and lets go of a reconnected one", async () => {
    let vmId: string;
    {
      await using owned = await SmolVM.create(state.config());
      vmId = owned.vmId;
      {
        await using reconnected = await SmolVM.fromId(vmId);
        expect((await reconnected.run("echo both")).output).toBe("both");
      }
      expect([owned.status, (await owned.run("echo still")).output]).toEqual(["running", "still"]);
    }
    expect(await rejection(SmolVM.fromId(vmId))).toMatchObject({ code: "VM_NOT_FOUND", details: { vmId } });
    await expectNothingLeft(state.stateDir);
  });
});

describe("pause and resume", () => {
  it("stops the guest's time, sets its clock on resume, and refuses commands meanwhile", async () => {
    const vm = await SmolVM.create(state.config());
    await vm.pause();
    await vm.pause();
    expect(vm.status).toBe("paused");
    expect(await rejection(vm.run("true"))).toMatchObject({ code: "INVALID_STATE", details: { helps: "resume()" } });
    expect(await rejection(vm.start())).toMatchObject({ code: "INVALID_STATE", details: { helps: "resume()" } });
    await pause(5_000);
    await vm.resume();
    await vm.resume();
    const before = Date.now();
    const guest = Number((await vm.exec(["date", "+%s%3N"])).output);
    // Not a matter of speed: a clock that nobody set would be 5 s late.
    expect(guest).toBeGreaterThan(before - 2_000);
    expect(guest).toBeLessThan(Date.now() + 2_000);
    await vm.pause();
    await vm.stop();
    expect(vm.status).toBe("stopped");
    await vm.delete();
  });
});

describe("delete", () => {
  it("works from every state", async () => {
    await using manager = new VmManager();
    const seen: VmStatus[] = [];
    const remove = async (id: string) => {
      seen.push((await manager.info(id)).status);
      expect(await manager.delete(id)).toEqual({});
      expect(await rejection(manager.info(id))).toMatchObject({ code: "VM_NOT_FOUND" });
    };
    await remove(await manager.create(state.config()));
    const ids = await Promise.all([1, 2, 3].map(() => manager.create(state.config())));
    await Promise.all(ids.map((id) => manager.start(id)));
    const [running, paused, failed] = ids as [string, string, string];
    await manager.pause(paused);
    process.kill((await manager.info(failed)).pid!, "SIGKILL");
    await eventually(async () => ((await manager.info(failed)).status === "error" ? true : undefined));
    for (const id of [running, paused, failed]) await remove(id);
    expect(seen).toEqual(["created", "running", "paused", "error"]);
    expect(await rejection(manager.delete(running))).toMatchObject({ code: "VM_NOT_FOUND" });
    await expectNothingLeft(state.stateDir);
  });
});

describe("illegal changes", () => {
  it("names the state and the call that helps", async () => {
    await using manager = new VmManager();
    const id = await manager.create(state.config());
    for (const verb of ["pause", "resume"] as const) {
      const error = await rejection(manager[verb](id));
      expect(error).toMatchObject({
        code: "INVALID_STATE",
        details: { vmId: id, status: "created", helps: "start()" },
      });
      expect(error.message).toMatch(/created.*start\(\)/);
    }
    await manager.stop(id);
    expect(await rejection(manager.exec(id, ["true"]))).toMatchObject({ code: "INVALID_STATE" });
    await manager.delete(id);
  });

  it("says VM_NOT_FOUND for an id that is none", async () => {
    await using manager = new VmManager();
    const calls = [
      () => SmolVM.fromId("nobody"),
      ...(["start", "stop", "pause", "resume", "delete", "info", "logs"] as const).map(
        (verb) => () => manager[verb]("nobody"),
      ),
      () => manager.exec("nobody", ["true"]),
    ];
    for (const call of calls) expect(await rejection(call())).toMatchObject({ code: "VM_NOT_FOUND" });
  });
});

describe("what is told of a VM", () => {
  it("lists by status, informs, and reads the end of the console", async () => {
    await using manager = new VmManager();
    const idle = await manager.create(state.config({ vcpuCount: 1, memSizeMib: 128 }));
    await using vm = await SmolVM.create(state.config({ vcpuCount: 1, memSizeMib: 300 }));
    const ids = async (status?: VmStatus) => (await SmolVM.list({ status })).map(({ vmId }) => vmId);
    expect(await ids()).toEqual([idle, vm.vmId]);
    expect([await ids("created"), await ids("running"), await ids("error")]).toEqual([[idle], [vm.vmId], []]);
    const info = await vm.info();
    expect(info).toMatchObject({
      status: "running",
      transition: null,
      failure: null,
      vcpuCount: 1,
      memSizeMib: 300,
      network: "none",
      image: { name: "debian" },
      diskMode: "isolated",
    });
    expect(vmmPids(state.runtimeDir)).toEqual([info.pid]);
    expect(existsSync(info.diskPath)).toBe(true);
    await vm.run("printf 'console line %s\\n' 1 2 3 > /dev/ttyS0");
    await eventually(async () => ((await vm.logs()).includes("line 3") ? true : undefined));
    expect((await vm.logs({ tail: 2 })).replaceAll("\r", "")).toBe("console line 2\nconsole line 3");
    await manager.delete(idle);
  });

  it("is the same to another program, while both use it", async () => {
    await using vm = await SmolVM.create(state.config());
    await using other = await Program.start();
    const ours = vm.run("for i in 1 2 3 4; do echo ours; sleep 0.5; done");
    const theirs = other.call("run", vm.vmId, "for i in 1 2 3 4; do echo theirs; sleep 0.5; done");
    expect((await ours).stdout).toBe("ours\n".repeat(4));
    expect((await theirs).stdout).toBe("theirs\n".repeat(4));
    expect(await other.call("info", vm.vmId)).toEqual(await vm.info());
    await other.call("stop", vm.vmId);
    expect(vm.status).toBe("stopped");
  });
});

describe("an id", () => {
  it("goes to exactly one of many at once, in one program and in two", async () => {
    await using a = await Program.start();
    await using b = await Program.start();
    const config = state.config({ vmId: "twin" });
    for (const programs of [
      [a, a, a, a],
      [a, b, a, b],
    ]) {
      const settled = await Promise.allSettled(programs.map((program) => program.call("create", config)));
      const codes = settled.map((one) => (one.status === "fulfilled" ? one.value : one.reason.code)).sort();
      expect(codes).toEqual(["VM_EXISTS", "VM_EXISTS", "VM_EXISTS", "twin"]);
      await a.call("start", "twin");
      await a.call("run", "twin", "echo mine > /root/mine; sync");
      expect(await rejection(b.call("create", config))).toMatchObject({ code: "VM_EXISTS" });
      expect(await rejection(b.call("boot", config))).toMatchObject({ code: "VM_EXISTS" });
      expect((await a.call("run", "twin", "cat /root/mine")).output).toBe("mine");
      await a.call("delete", "twin");
    }
  });

  it("never adopts what lies at its place already", async () => {
    const outside = mkdtempSync(join(tmpdir(), "smolvm-outside-"));
    writeFileSync(join(outside, "disk.qcow2"), "outside");
    const vms = join(state.stateDir, "vms");
    mkdirSync(join(vms, "stale-dir"), { recursive: true });
    for (const name of ["disk.qcow2", "environment.json", "console.log"])
      writeFileSync(join(vms, "stale-dir", name), "stale");
    writeFileSync(join(vms, "stale-file"), "stale");
    symlinkSync(outside, join(vms, "stale-link"));
    try {
      await using manager = new VmManager();
      const report = await manager.reconcile();
      expect(report.skipped.map(({ subject }) => subject).sort()).toEqual(
        ["stale-dir", "stale-file", "stale-link"].map((name) => join(vms, name)),
      );
      for (const vmId of ["stale-dir", "stale-file", "stale-link"]) {
        await manager.create(state.config({ vmId }));
        expect(lstatSync(join(vms, vmId)).isDirectory()).toBe(true);
        expect(lstatSync(join(vms, vmId)).mode & 0o777).toBe(0o700);
        expect(existsSync(join(vms, vmId, "disk.qcow2"))).toBe(false);
        expect(readFileSync(join(vms, vmId, "environment.json"), "utf8")).not.toContain("stale");
        expect(await manager.logs(vmId)).toBe("");
        await manager.delete(vmId);
      }
      expect(readFileSync(join(outside, "disk.qcow2"), "utf8")).toBe("outside");
    } finally {
      rmSync(outside, { recursive: true });
    }
  });
});
