import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { isAlive, type ProcessIdentity, selfIdentity } from "../host/process-identity.js";
import { deadProcess } from "../storage/testing/scratch-store.js";
import type { VmStatus, VmTransition } from "../storage/vm-store.js";
import { claimVm, findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { deleteVm } from "./delete-vm.js";
import { reconcile } from "./reconcile.js";
import { refreshVm } from "./refresh-vm.js";
import { releaseRuntime } from "./release-runtime.js";
import { fakeContext, recordVm, sleepingProcess } from "./testing/fake-context.js";
import { vmInfo } from "./vm-info.js";

let ctx: VmContext;
let self: ProcessIdentity;

beforeEach(async () => {
  ctx = fakeContext();
  self = await selfIdentity();
});

const row = (id = "a1") => ctx.store.vms.find(id);
const directory = () => join(ctx.paths.stateDir, "vms", "a1");
const soon = () => Deadline.after(2_000);

/** Gives a VM what it has while it runs: a socket directory and a VMM. */
async function makeRun(vmm: ProcessIdentity | undefined, id = "a1"): Promise<string> {
  const runtimeDir = join(ctx.paths.runtimeDir, `${id}-run`);
  mkdirSync(runtimeDir, { recursive: true });
  writeFileSync(join(runtimeDir, "lane0"), "");
  ctx.store.resources.plan(id, [
    { kind: "runtime", name: runtimeDir },
    { kind: "process", name: "logkeeper" },
    { kind: "process", name: "vmm" },
  ]);
  if (vmm !== undefined) ctx.store.resources.setProcess(id, "vmm", vmm);
  return runtimeDir;
}

/** As if a process that has died since had begun to change the VM. */
function beginMove(transition: VmTransition, from: VmStatus, mover = deadProcess()): void {
  expect(ctx.store.vms.claim("a1", [from], { transition, mover })).toBe(true);
}

/** QEMU's monitor, as far as pause and resume need it. */
async function monitorAt(runtimeDir: string): Promise<string[]> {
  const heard: string[] = [];
  const clients: Socket[] = [];
  const server = createServer((socket) => {
    clients.push(socket);
    const lines = createInterface({ input: socket });
    lines.on("error", () => {});
    lines.on("line", (line) => {
      heard.push((JSON.parse(line) as { execute: string }).execute);
      socket.write('{"return": {}}\n');
    });
  });
  server.listen(join(runtimeDir, "qmp"));
  await once(server, "listening");
  onTestFinished(() => {
    for (const client of clients) client.destroy();
    server.close();
  });
  return heard;
}

describe("a change whose mover has died", () => {
  test("creating: nothing is left, also of a disk that was to be retained", async () => {
    await recordVm(ctx, { status: "creating", spec: { retainDiskOnDelete: true } });
    ctx.store.vms.takeOver("a1", row()!.move!, deadProcess());
    ctx.store.ports.reserve("a1", [{ hostAddress: "127.0.0.1", hostPort: 1, guestPort: 1, origin: "config" }]);
    expect(await refreshVm(ctx, row()!)).toBeUndefined();
    expect([row(), existsSync(directory()), ctx.store.ports.reserved()]).toEqual([undefined, false, []]);
    expect(existsSync(join(ctx.paths.stateDir, "retained"))).toBe(false);
  });

  test("starting: its processes and sockets go, and it says so", async () => {
    await recordVm(ctx, { status: "stopped" });
    const runtimeDir = await makeRun(undefined);
    const vmm = await sleepingProcess("qemu-system-x86_64", "/");
    ctx.store.resources.setProcess("a1", "vmm", vmm);
    ctx.store.lanes.lease("a1", { laneCount: 1, holder: self, dead: [] });
    beginMove("starting", "stopped");
    expect(await refreshVm(ctx, row()!)).toMatchObject({
      status: "error",
      move: undefined,
      failure: { code: "INTERRUPTED" },
    });
    expect([await isAlive(vmm), existsSync(runtimeDir), ctx.store.lanes.list("a1")]).toEqual([false, false, []]);
    expect(ctx.store.resources.list("a1").map(({ kind }) => kind)).toEqual(["directory"]);
    expect(existsSync(directory())).toBe(true);
  });

  test("rewinding: likewise, whatever it was before", async () => {
    await recordVm(ctx, { status: "running" });
    const vmm = await sleepingProcess("qemu-system-x86_64", "/");
    const runtimeDir = await makeRun(vmm);
    beginMove("rewinding", "running");
    const after = await refreshVm(ctx, row()!);
    expect(after).toMatchObject({ status: "error", move: undefined, failure: { code: "INTERRUPTED" } });
    expect([await isAlive(vmm), existsSync(runtimeDir), existsSync(directory())]).toEqual([false, false, true]);
  });

  test("stopping: it is stopped", async () => {
    await recordVm(ctx, { status: "running" });
    const vmm = await sleepingProcess("qemu-system-x86_64", "/");
    const runtimeDir = await makeRun(vmm);
    beginMove("stopping", "running");
    expect(await refreshVm(ctx, row()!)).toMatchObject({ status: "stopped", move: undefined, failure: undefined });
    expect([await isAlive(vmm), existsSync(runtimeDir)]).toEqual([false, false]);
  });

  test("deleting: it is deleted", async () => {
    await recordVm(ctx, { status: "stopped" });
    beginMove("deleting", "stopped");
    expect(await refreshVm(ctx, row()!)).toBeUndefined();
    expect(existsSync(directory())).toBe(false);
  });

  test.each([
    ["pausing", "running", "paused", "stop"],
    ["resuming", "paused", "running", "cont"],
    // A copy may have stopped its vCPUs; it is afterwards what it was before.
    ["capturing", "running", "running", "cont"],
    ["capturing", "paused", "paused", "stop"],
  ] as const)("%s: it is done to the VMM that still runs", async (transition, from, to, command) => {
    await recordVm(ctx, { status: from });
    const vmm = await sleepingProcess("qemu-system-x86_64", "/");
    const heard = await monitorAt(await makeRun(vmm));
    beginMove(transition, from);
    expect(await refreshVm(ctx, row()!)).toMatchObject({ status: to, move: undefined });
    expect(heard).toEqual(["qmp_capabilities", command]);
    expect(await isAlive(vmm)).toBe(true);
  });

  test.each([
    ["pausing", "running"],
    ["resuming", "paused"],
  ] as const)("%s: with a VMM that is gone, the next look sees that", async (transition, from) => {
    await recordVm(ctx, { status: from });
    await makeRun(deadProcess());
    beginMove(transition, from);
    const after = await refreshVm(ctx, row()!);
    expect(after).toMatchObject({ status: from, move: undefined });
    expect(await refreshVm(ctx, after!)).toMatchObject({ status: "error", failure: { code: "VMM_ENDED" } });
  });

  test("pausing: with a monitor that is not there, the VM is in error and can be stopped", async () => {
    await recordVm(ctx, { status: "running" });
    await makeRun(await sleepingProcess("qemu-system-x86_64", "/"));
    beginMove("pausing", "running");
    await expect(refreshVm(ctx, row()!)).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(row()).toMatchObject({ status: "error", move: undefined, failure: { code: "CHANNEL_CLOSED" } });
  });

  test("is left to a mover that lives", async () => {
    await recordVm(ctx, { status: "running" });
    beginMove("stopping", "running", self);
    const before = row()!;
    expect(await refreshVm(ctx, before)).toBe(before);
  });

  test("is taken over once, by whoever comes first", async () => {
    await recordVm(ctx, { status: "stopped" });
    beginMove("deleting", "stopped");
    const seen = row()!;
    const results = await Promise.all([refreshVm(ctx, seen), refreshVm(ctx, seen), refreshVm(ctx, seen)]);
    expect(results.at(-1)?.move?.mover ?? self).toEqual(self);
    await vi.waitFor(() => expect(row()).toBeUndefined());
  });
});

describe("a VMM that ended by itself", () => {
  test.each([
    ["smolvm-agent: boot\nsmolvm-agent: power off\n", "stopped", undefined],
    ["smolvm-agent: boot\nKernel panic\n", "error", { code: "VMM_ENDED" }],
    ["", "error", { code: "VMM_ENDED" }],
  ] as const)("after %j", async (log, status, failure) => {
    await recordVm(ctx, { status: "running" });
    const runtimeDir = await makeRun(deadProcess());
    writeFileSync(join(directory(), "console.log"), log);
    const after = await refreshVm(ctx, row()!);
    expect(after).toMatchObject({ status, ...(failure === undefined ? {} : { failure }) });
    expect(after?.failure === undefined).toBe(failure === undefined);
    expect(existsSync(runtimeDir)).toBe(false);
  });

  test("one that runs is left alone, running or paused", async () => {
    for (const status of ["running", "paused"] as const) {
      const id = `vm-${status}`;
      await recordVm(ctx, { id, status });
      const vmm = await sleepingProcess("qemu-system-x86_64", "/");
      await makeRun(vmm, id);
      const before = row(id)!;
      expect(await refreshVm(ctx, before)).toBe(before);
      expect(await isAlive(vmm)).toBe(true);
      expect(vmInfo(ctx, before)).toMatchObject({
        vmId: id,
        status,
        pid: vmm.pid,
        diskMode: "isolated",
        diskSizeMib: 1024,
      });
    }
  });
});

describe("a VM that lives with its program", () => {
  test("is deleted when that has ended, running or not", async () => {
    const vmm = await sleepingProcess("qemu-system-x86_64", "/");
    await recordVm(ctx, { status: "running", keeper: deadProcess() });
    await makeRun(vmm);
    expect(await refreshVm(ctx, row()!)).toBeUndefined();
    expect([await isAlive(vmm), existsSync(directory())]).toEqual([false, false]);
  });

  test("stays as long as that runs", async () => {
    await recordVm(ctx, { status: "stopped", keeper: self });
    expect(await refreshVm(ctx, row()!)).toMatchObject({ status: "stopped" });
  });
});

describe("releasing what a VM has while it runs", () => {
  test("a recorded pid that is somebody else's by now is never signalled", async () => {
    await recordVm(ctx, { status: "running" });
    const stranger = await sleepingProcess("qemu-system-x86_64", "/");
    await makeRun({ ...stranger, startTime: "1" });
    ctx.store.resources.setProcess("a1", "logkeeper", { ...stranger, bootId: "an earlier boot" });
    await releaseRuntime(ctx, "a1", { graceMs: 100 });
    expect(await isAlive(stranger)).toBe(true);
    expect(ctx.store.resources.list("a1").map(({ kind }) => kind)).toEqual(["directory"]);
  });

  test("finds the VMM that was started but not recorded, and no other", async () => {
    await recordVm(ctx, { status: "running" });
    const runtimeDir = await makeRun(undefined);
    const unrecorded = await sleepingProcess("qemu-system-x86_64", runtimeDir);
    const other = await sleepingProcess("qemu-system-x86_64", "/");
    const bystander = await sleepingProcess("editor", runtimeDir);
    await releaseRuntime(ctx, "a1");
    expect(await isAlive(unrecorded)).toBe(false);
    expect([await isAlive(other), await isAlive(bystander)]).toEqual([true, true]);
  });

  test("is idempotent", async () => {
    await recordVm(ctx, { status: "running" });
    await makeRun(deadProcess());
    await releaseRuntime(ctx, "a1");
    await releaseRuntime(ctx, "a1");
    await releaseRuntime(ctx, "nobody");
    expect(ctx.store.resources.list("a1")).toHaveLength(1);
  });
});

describe("claiming", () => {
  test("a VM that is not there", async () => {
    expect(() => findVm(ctx, "nobody")).toThrow(
      expect.objectContaining({ code: "VM_NOT_FOUND", details: { vmId: "nobody" } }),
    );
    await expect(claimVm(ctx, "nobody", "start", soon())).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
  });

  test("gives the VM as it was, claimed by us", async () => {
    await recordVm(ctx, { status: "stopped" });
    expect(await claimVm(ctx, "a1", "start", soon())).toMatchObject({ id: "a1", status: "stopped", move: undefined });
    expect(row()?.move).toEqual({ transition: "starting", mover: self });
  });

  test("says when there is nothing to do", async () => {
    await recordVm(ctx, { status: "stopped" });
    expect(await claimVm(ctx, "a1", "stop", soon())).toBe("already");
    expect(row()?.move).toBeUndefined();
  });

  test.each([
    ["stopped", "pause", "start()"],
    ["created", "resume", "start()"],
    ["error", "pause", "start()"],
  ] as const)("of a VM that is %s: %s is refused, %s helps", async (status, verb, help) => {
    await recordVm(ctx, { status });
    await expect(claimVm(ctx, "a1", verb, soon())).rejects.toMatchObject({
      code: "INVALID_STATE",
      message: expect.stringContaining(`it is ${status}; call ${help} first`),
      details: { vmId: "a1", status, helps: help },
    });
  });

  test("waits for another's change, and names who kept it", async () => {
    await recordVm(ctx, { status: "stopped" });
    beginMove("starting", "stopped", self);
    await expect(claimVm(ctx, "a1", "delete", Deadline.after(60))).rejects.toMatchObject({
      code: "BUSY",
      details: { vmId: "a1", transition: "starting", mover: self },
    });
    const abort = new AbortController();
    const waiting = claimVm(ctx, "a1", "delete", Deadline.after(5_000, abort.signal));
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ABORTED" });
    const patient = claimVm(ctx, "a1", "delete", soon());
    setTimeout(() => ctx.store.vms.settle("a1", self, { status: "error" }), 30);
    expect(await patient).toMatchObject({ status: "error" });
  });

  test("of a VM that is gone while we look", async () => {
    await recordVm(ctx, { status: "stopped", keeper: deadProcess() });
    await expect(claimVm(ctx, "a1", "start", soon())).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
  });

  test("goes to one of many", async () => {
    await recordVm(ctx, { status: "stopped" });
    const claims = Array.from({ length: 5 }, () => claimVm(ctx, "a1", "start", Deadline.after(100)));
    const results = await Promise.allSettled(claims);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const result of results) {
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "BUSY" });
    }
  });
});

describe("deleting", () => {
  test("leaves nothing", async () => {
    await recordVm(ctx, { status: "stopped" });
    expect(await deleteVm(ctx, "a1")).toEqual({});
    expect([row(), existsSync(directory()), ctx.store.retainedDisks.list()]).toEqual([undefined, false, []]);
    await expect(deleteVm(ctx, "a1")).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
  });

  test("keeps a disk that was to be kept, and knows what it is a layer over", async () => {
    const { createdAtMs } = await recordVm(ctx, { status: "stopped", spec: { retainDiskOnDelete: true } });
    const { retainedDiskPath } = await deleteVm(ctx, "a1");
    expect(retainedDiskPath).toBe(join(ctx.paths.stateDir, "retained", `a1-${createdAtMs}.qcow2`));
    expect(readFileSync(retainedDiskPath!, "utf8")).toBe("the disk");
    expect(existsSync(directory())).toBe(false);
    expect(ctx.store.retainedDisks.list()).toEqual([{ path: retainedDiskPath, basePaths: ["/images/rootfs.ext4"] }]);
  });

  test("that was interrupted after the disk was moved finishes, and the disk stays", async () => {
    const { createdAtMs } = await recordVm(ctx, { status: "stopped", spec: { retainDiskOnDelete: true } });
    const kept = join(ctx.paths.stateDir, "retained", `a1-${createdAtMs}.qcow2`);
    beginMove("deleting", "stopped");
    mkdirSync(join(kept, ".."));
    writeFileSync(kept, "the moved disk");
    rmSync(join(directory(), "disk.qcow2"));
    expect(await refreshVm(ctx, row()!)).toBeUndefined();
    expect(readFileSync(kept, "utf8")).toBe("the moved disk");
  });

  test("never takes a shared disk", async () => {
    const disk = join(ctx.paths.stateDir, "my-disk");
    writeFileSync(disk, "mine");
    const spec = { disk: { mode: "shared", path: disk, format: "raw" }, retainDiskOnDelete: true } as const;
    await recordVm(ctx, { status: "stopped", spec });
    expect(await deleteVm(ctx, "a1")).toEqual({});
    expect(readFileSync(disk, "utf8")).toBe("mine");
  });
});

describe("reconcile", () => {
  test("reports what it cleaned, could not clean, and left alone", async () => {
    await recordVm(ctx, { id: "fine", status: "stopped" });
    await recordVm(ctx, { id: "orphan", status: "stopped", keeper: deadProcess() });
    await recordVm(ctx, { id: "busy", status: "stopped" });
    ctx.store.vms.claim("busy", ["stopped"], { transition: "starting", mover: self });
    await recordVm(ctx, { id: "stuck", status: "running" });
    await makeRun(await sleepingProcess("qemu-system-x86_64", "/"), "stuck");
    ctx.store.vms.claim("stuck", ["running"], { transition: "pausing", mover: deadProcess() });
    const stray = join(ctx.paths.stateDir, "vms", "stray");
    mkdirSync(stray);

    const report = await reconcile(ctx);
    expect(report.cleaned).toEqual([{ subject: "orphan", what: "was stopped, is deleted" }]);
    expect(report.failed).toEqual([{ subject: "stuck", what: expect.stringContaining("CHANNEL_CLOSED") }]);
    expect(report.skipped.map(({ subject }) => subject).sort()).toEqual([stray, "busy"].sort());
    expect(readdirSync(join(ctx.paths.stateDir, "vms")).sort()).toEqual(["busy", "fine", "stray", "stuck"]);
    // Its VMM lives although its state is not that of a running VM: the next look ends it.
    expect((await reconcile(ctx)).cleaned).toEqual([{ subject: "stuck", what: expect.stringContaining("leftovers") }]);
    expect(ctx.store.resources.list("stuck").map(({ kind }) => kind)).toEqual(["directory"]);
    expect((await reconcile(ctx)).cleaned).toEqual([]);
  });
});
