import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { identifyProcess } from "../../host/process-identity.js";
import type { MachineSpec, StartedVmm } from "../backend.js";
import { apiSocket, vmmDirectory, vsockSocket } from "./places.js";
import { fakeBackend, machineIn, outputsIn, scratch, soon } from "./testing/machines.js";

function setUp(changes: Partial<MachineSpec> = {}) {
  const directory = scratch();
  const fake = fakeBackend(directory);
  const machine = machineIn(directory, changes);
  const outputs = outputsIn(directory);
  const start = async (deadline = soon()): Promise<StartedVmm> => {
    const vmm = await fake.backend.start(machine, outputs, deadline);
    onTestFinished(async () => {
      if ((await identifyProcess(vmm.pid)) !== undefined) process.kill(-vmm.pid, "SIGKILL");
      await vmm.ended;
    });
    return vmm;
  };
  /** Of the first VMM; `0` when none came so far that it could note anything down. */
  const firstPid = () => {
    try {
      return fake.heard().find(({ pid }) => pid !== undefined)?.pid ?? 0;
    } catch {
      return 0;
    }
  };
  return { ...fake, directory, machine, outputs, start, firstPid };
}

const echo = (lane: NodeJS.ReadWriteStream, text: string) =>
  new Promise<string>((resolve) => {
    lane.once("data", (chunk: Buffer) => resolve(chunk.toString("latin1")));
    lane.write(text);
  });

describe("a start", () => {
  test("gives the VMM names in its own directory, no environment, and the outputs", async () => {
    const { start, heard, machine, outputs } = setUp();
    const { pid, ownLane } = await start();
    ownLane.on("error", () => {});
    const directory = vmmDirectory(machine.runtimeDir);
    expect(heard()[0]).toMatchObject({ pid, cwd: directory, env: "" });
    expect(heard()[0]?.argv?.slice(0, 2)).toEqual(["--api-sock", apiSocket(machine.runtimeDir)]);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(readlinkSync(join(directory, "disk"))).toBe(machine.disk.path);
    expect(readlinkSync(join(directory, "kernel"))).toBe(machine.kernelPath);
    expect(readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ")[2]).toBe(String(pid)); // Its own group.
    await expect.poll(outputs.consoleText).toContain("guest runs");
  });

  test("gives a lane that only the starter has, and others to whoever dials", async () => {
    const { start, backend, machine } = setUp();
    const { ownLane } = await start();
    expect(await echo(ownLane, "own")).toBe("own");
    const other = await backend.dial(machine.runtimeDir, 0, soon());
    expect(await echo(other, "other")).toBe("other");
    other.destroy();
    ownLane.destroy();
  });

  test("does not wait for a guest that has no agent", async () => {
    const { start, otherwise } = setUp();
    otherwise({ isSilent: true });
    const { ownLane } = await start();
    ownLane.on("error", () => {});
    expect(ownLane.destroyed).toBe(false);
    ownLane.destroy();
  });

  test("ends its lane with the VMM", async () => {
    const { start, otherwise } = setUp();
    otherwise({ isSilent: true });
    const { pid, ownLane, ended } = await start();
    process.kill(-pid, "SIGKILL");
    expect(await ended).toEqual({ exitCode: null, signal: "SIGKILL" });
    await expect.poll(() => ownLane.destroyed).toBe(true);
  });

  test("from an image gives it memory and devices in place of a kernel", async () => {
    const { start, heard, machine, directory } = setUp({
      memory: { from: "image", path: "/dev/null", devicesPath: "/dev/null" },
      kernelPath: "/nonexistent",
    });
    await start();
    expect(readdirSync(vmmDirectory(machine.runtimeDir)).sort()).toEqual(["api", "devices", "disk", "memory", "vsock"]);
    expect(heard().map(({ request }) => request)).toEqual([...[undefined, "GET /", "PUT /snapshot/load", "PATCH /vm"]]);
    expect(existsSync(join(directory, "jails"))).toBe(false);
  });

  test("in place of a VMM that has ended goes over what that has left, and never beside one that runs", async () => {
    const { start, machine } = setUp();
    const first = await start();
    await expect(start()).rejects.toMatchObject({ code: "BUSY" });
    process.kill(-first.pid, "SIGKILL");
    await first.ended;
    expect(existsSync(vsockSocket(machine.runtimeDir))).toBe(true);
    const { ownLane } = await start();
    expect(await echo(ownLane, "again")).toBe("again");
  });
});

describe("a start that fails leaves nothing", () => {
  const leavesNothing = async ({ machine, firstPid }: ReturnType<typeof setUp>) => {
    expect(readdirSync(machine.runtimeDir)).toEqual([]);
    if (firstPid() > 0) expect(await identifyProcess(firstPid())).toBeUndefined();
  };

  test.each([
    ["PUT /vsock", "STORAGE_FAILED"],
    ["PUT /drives/root", "STORAGE_FAILED"],
    ["PUT /actions", "BOOT_FAILED"],
  ])("when %s is refused", async (request, code) => {
    const its = setUp();
    its.otherwise({ refuse: { [request]: "the reason" } });
    await expect(its.start()).rejects.toMatchObject({ code, details: { fault: "the reason" } });
    await leavesNothing(its);
  });

  test("when an image is refused", async () => {
    const its = setUp({ memory: { from: "image", path: "/dev/null", devicesPath: "/dev/null" } });
    its.otherwise({ refuse: { "PUT /snapshot/load": "another version" } });
    await expect(its.start()).rejects.toMatchObject({ code: "SNAPSHOT_FAILED" });
    await leavesNothing(its);
  });

  test.each(["start", "GET /", "PUT /entropy", "PUT /actions"])("when the VMM ends at %s", async (endAt) => {
    const its = setUp();
    its.otherwise({ endAt });
    await expect(its.start()).rejects.toMatchObject({ code: "BOOT_FAILED", details: { exitCode: 7 } });
    await leavesNothing(its);
  });

  test("when it is aborted", async () => {
    const its = setUp();
    its.otherwise({ stallAt: "PUT /vsock" });
    const aborted = new AbortController();
    const started = its.start(Deadline.after(10_000, aborted.signal));
    const failed = expect(started).rejects.toMatchObject({ code: "ABORTED" });
    await expect.poll(() => its.firstPid() > 0 && its.heard().at(-1)?.request).toBe("PUT /vsock");
    aborted.abort();
    await failed;
    await leavesNothing(its);
    await expect(its.start(Deadline.after(1, AbortSignal.abort()))).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("also no memory file that was to be recorded", async () => {
    const directory = scratch();
    const its = setUp({ memory: { from: "recording", path: join(directory, "memory") } });
    its.otherwise({ endAt: "PUT /vsock" });
    await expect(its.start()).rejects.toMatchObject({ code: "BOOT_FAILED" });
    expect(readdirSync(directory)).toEqual([]);
    await leavesNothing(its);
  });

  test("what Firecracker does not have is refused before anything is done", async () => {
    const its = setUp({ disk: { mode: "shared", path: "/d.qcow2", format: "qcow2" } });
    await expect(its.start()).rejects.toMatchObject({ code: "UNSUPPORTED" });
    expect(readdirSync(its.machine.runtimeDir)).toEqual([]);
    expect(its.heard).toThrow();
  });
});

describe("disks", () => {
  const isolated = (directory: string, layers: readonly string[] = []) => ({
    ...{ mode: "isolated" as const, path: join(directory, "new.raw"), layers, baseFormat: "raw" as const },
    ...{ basePath: join(directory, "base.raw"), sizeBytes: 4096 },
  });

  test("a private one is a copy of the base, or of the newest layer", async () => {
    const { backend, directory } = setUp();
    await backend.prepareDisk(isolated(directory));
    expect(readFileSync(join(directory, "new.raw"), "latin1").replaceAll("\0", "")).toBe("base");
    const [newest, older] = [join(directory, "newest"), join(directory, "older")];
    writeFileSync(newest, "newest");
    writeFileSync(older, "older");
    const disk = { ...isolated(directory, [newest, older]), path: join(directory, "other.raw") };
    await backend.prepareDisk(disk);
    expect(readFileSync(disk.path, "latin1").replaceAll("\0", "")).toBe("newest");
    expect(statSync(disk.path)).toMatchObject({ size: 4096, mode: 0o100600 });
  });

  test("nothing is made of a shared one, nor of a format that Firecracker does not have", async () => {
    const { backend, directory } = setUp();
    const before = readdirSync(directory);
    await backend.prepareDisk({ mode: "shared", path: join(directory, "disk.raw"), format: "raw" });
    const qcow2 = backend.prepareDisk({ ...isolated(directory), baseFormat: "qcow2" });
    await expect(qcow2).rejects.toMatchObject({ code: "UNSUPPORTED" });
    expect(readdirSync(directory)).toEqual(before);
  });
});

test("a recording start makes its memory file, and freezing fills it", async () => {
  const directory = scratch();
  const memoryPath = join(directory, "memory");
  const { start, backend, machine } = setUp({ memory: { from: "recording", path: memoryPath } });
  await start();
  expect(statSync(memoryPath)).toMatchObject({ size: 0, mode: 0o100600 });
  await backend.freeze(machine.runtimeDir, join(directory, "devices"), soon());
  expect(readdirSync(directory).sort()).toEqual(["devices", "memory"]);
  expect(readFileSync(memoryPath, "utf8")).toBe("memory Diff");
});

test("release removes what a VMM has left, twice without harm, and nothing that its links name", async () => {
  const { start, backend, machine } = setUp();
  const vmm = await start();
  process.kill(-vmm.pid, "SIGKILL");
  await vmm.ended;
  expect(lstatSync(vmmDirectory(machine.runtimeDir)).isDirectory()).toBe(true);
  await backend.release(machine.runtimeDir, soon());
  await backend.release(machine.runtimeDir, soon());
  expect(readdirSync(machine.runtimeDir)).toEqual([]);
  for (const path of [machine.kernelPath, machine.initrdPath, machine.disk.path]) expect(existsSync(path)).toBe(true);
});

test("asks a guest to shut down by its keyboard, where it has one", async () => {
  const { start, backend, machine, heard } = setUp();
  await start();
  await backend.askToShutDown(machine.runtimeDir, soon());
  const last = heard().at(-1)?.body;
  expect(last).toEqual({ action_type: process.arch === "x64" ? "SendCtrlAltDel" : "InstanceStart" });
});

test("dials no socket that an earlier VMM has left", async () => {
  const { start, backend, machine } = setUp();
  const vmm = await start();
  process.kill(-vmm.pid, "SIGKILL");
  await vmm.ended;
  expect(existsSync(vsockSocket(machine.runtimeDir))).toBe(true);
  await expect(backend.dial(machine.runtimeDir, 0, Deadline.after(50))).rejects.toMatchObject({
    code: "TIMEOUT",
    details: { absence: "no VMM" },
  });
});

test("says what it is, and has no accelerator but KVM", async () => {
  const { backend } = setUp();
  expect(await backend.identify(soon())).toBe("firecracker 1.16.1, a fake");
  const boot = { kernelPath: "/nonexistent", initrdPath: "/nonexistent" };
  expect(await backend.tryAccelerator("tcg", boot, soon())).toMatch(/tcg/);
  expect(backend.features).toMatchObject({ linkKinds: ["tap"], diskFormats: ["raw"], keepsLanes: false });
});
