// What every backend owes, as src/backends/backend.ts says it: the same cases for each one that this host can run.

import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Backend, MachineSpec, StartedVmm } from "../../src/backends/backend.js";
import type { GuestConnection as Connection } from "../../src/guest/connection.js";
import { BACKEND_NAMES, backendFor, Deadline, GuestConnection, identifyProcess, VmManager } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";

const state = testState();
const soon = () => Deadline.after(30_000);
const names = BACKEND_NAMES.filter((name) => name !== "auto");

it("auto stands for one of the backends", () => {
  expect(names).toContain(backendFor("auto").name);
});

for (const name of names) {
  const backend = find(name);
  if (backend !== undefined) {
    describe(name, () => contract(backend));
    continue;
  }
  it(`${name}: a backend that this version does not have is refused by name`, async () => {
    const refused = await rejection((async () => backendFor(name))());
    expect(refused).toMatchObject({ code: "UNSUPPORTED", details: { field: "backend", value: name } });
  });
  if (!isOnPath(name)) {
    console.log(`gate: ${name}: this version has no such backend, and this host no such program`);
    it.skip(`${name}: keeps the contract`, () => {});
  }
}

function contract(backend: Backend) {
  let boot: { kernelPath: string; initrdPath: string; rootfsPath: string; rootfsSizeBytes: number };
  let work: string;
  let runtimeDir: string;
  let machine: MachineSpec;
  const started: StartedVmm[] = [];
  const opened: number[] = [];
  let count = 0;

  beforeAll(async () => {
    await using manager = new VmManager();
    boot = await manager.images.resolve("debian");
    work = mkdtempSync(join(tmpdir(), "smolvm-ct-"));
  });

  beforeEach(() => {
    count += 1;
    runtimeDir = join(work, `r${count}`);
    mkdirSync(runtimeDir);
    machine = {
      vmId: "contract",
      accelerator: state.config().accel as "tcg",
      vcpuCount: 1,
      memSizeMib: 256,
      kernelPath: boot.kernelPath,
      initrdPath: boot.initrdPath,
      bootArgs: "",
      disk: {
        mode: "isolated",
        path: join(work, `disk${count}.qcow2`),
        layers: [],
        basePath: boot.rootfsPath,
        baseFormat: "raw",
        sizeBytes: boot.rootfsSizeBytes,
      },
      memory: { from: "boot" },
      network: undefined,
      runtimeDir,
    };
  });

  afterEach(async () => {
    for (const { pid, ended } of started.splice(0)) {
      if ((await identifyProcess(pid)) !== undefined) process.kill(-pid, "SIGKILL");
      await ended;
    }
    for (const fd of opened.splice(0)) closeSync(fd);
  });

  afterAll(() => rmSync(work, { recursive: true, force: true }));

  async function start(): Promise<StartedVmm> {
    const outputs = ["console", "messages"].map((file) => openSync(join(runtimeDir, `${file}.log`), "a"));
    opened.push(...outputs);
    await backend.prepareDisk(machine.disk);
    const vmm = await backend.start(machine, { console: outputs[0]!, messages: outputs[1]! }, soon());
    started.push(vmm);
    return vmm;
  }

  /** Says hello to the agent; resolves when it answers. */
  async function greet(lane: number): Promise<Connection> {
    return GuestConnection.open(await backend.dial(runtimeDir, lane, soon()), soon());
  }

  it("says what it is and what it can", async () => {
    const identity = await backend.identify(soon());
    expect(identity).toMatch(/\d/);
    expect(await backend.identify(soon())).toBe(identity);
    expect(backend.features.laneCount).toBeGreaterThanOrEqual(1);
    expect(backend.features.accelerators.length).toBeGreaterThanOrEqual(1);
  });

  it("prepares a private disk once, and nothing for a shared one", async () => {
    await backend.prepareDisk(machine.disk);
    expect(statSync(machine.disk.path).mode & 0o777).toBe(0o600);
    await rejection(backend.prepareDisk(machine.disk));
    const before = readdirSync(work).sort();
    await backend.prepareDisk({ mode: "shared", path: boot.rootfsPath, format: "raw" });
    expect(readdirSync(work).sort()).toEqual(before);
  });

  it("boots a guest whose lanes all answer, each for itself", async () => {
    await start();
    const connections = [];
    for (let lane = 0; lane < backend.features.laneCount; lane++) connections.push(await greet(lane));
    connections[0]!.close();
    // A lane can be used again, and the others did not notice.
    connections[0] = await greet(0);
    // Long enough for the agent to take a silent client for one that has left.
    await pause(500);
    for (const connection of connections) {
      const { exited } = connection.exec(
        { command: { argv: ["true"] }, hasStdin: false, outputLimitBytes: undefined },
        () => {},
      );
      expect(await Promise.race([exited, pause(10_000)])).toMatchObject({ exitCode: 0 });
      connection.close();
    }
  });

  it("gives its starter a lane that is there from the beginning, and does without it", async () => {
    const { ownLane } = await start();
    const connection = await GuestConnection.open(ownLane, soon());
    connection.close();
    await greet(0).then((other) => other.close());
  });

  it("gives the VMM its own process group, a seccomp filter, no environment and no descriptor of ours", async () => {
    const secret = openSync(join(work, "secret"), "a");
    opened.push(secret);
    const { pid } = await start();
    await greet(0).then((connection) => connection.close());
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    expect(status).toMatch(/^Seccomp:\s+2$/m);
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    expect(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]).toBe(String(pid));
    expect(readFileSync(`/proc/${pid}/environ`, "latin1")).toBe("");
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
    const files = readdirSync(`/proc/${pid}/fd`)
      .map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
      .filter((target) => target.startsWith("/") && !target.startsWith("/dev/") && !target.startsWith("/memfd:"));
    const expected = ["console.log", "messages.log"].map((file) => join(runtimeDir, file));
    const disks = [machine.disk.path, boot.rootfsPath];
    expect(files.filter((file) => !expected.includes(file) && !disks.includes(file))).toEqual([]);
    expect(files).toEqual(expect.arrayContaining([...expected, machine.disk.path]));
  });

  it("pauses and resumes, each twice without harm", async () => {
    await start();
    const connection = await greet(0);
    const beat = connection.exec(
      { command: { shellLine: "while sleep 0.1; do echo beat; done" }, hasStdin: false, outputLimitBytes: undefined },
      () => {
        beats += 1;
      },
    );
    let beats = 0;
    beat.exited.catch(() => {});
    await eventually(() => (beats > 0 ? true : undefined));
    await backend.pause(runtimeDir, soon());
    await backend.pause(runtimeDir, soon());
    // What was under way has arrived after a moment; then nothing moves.
    await pause(500);
    const still = beats;
    await pause(1_000);
    expect(beats).toBe(still);
    await backend.resume(runtimeDir, soon());
    await backend.resume(runtimeDir, soon());
    await eventually(() => (beats > still ? true : undefined));
    connection.close();
  });

  it("ends when killed, and says how", async () => {
    const vmm = await start();
    const connection = await greet(0);
    process.kill(-vmm.pid, "SIGKILL");
    expect(await vmm.ended).toEqual({ exitCode: null, signal: "SIGKILL" });
    await connection.closed;
    expect(await identifyProcess(vmm.pid)).toBeUndefined();
  });

  it("ends by itself when the guest powers off", async () => {
    const vmm = await start();
    const connection = await greet(0);
    const { exited } = connection.exec(
      { command: { argv: ["kill", "-TERM", "1"] }, hasStdin: false, outputLimitBytes: undefined },
      () => {},
    );
    exited.catch(() => {});
    expect(await vmm.ended).toEqual({ exitCode: 0, signal: null });
    expect(readFileSync(join(runtimeDir, "console.log"), "utf8")).toContain("power off");
  });

  it("fails to dial a VMM that is not there, within the deadline", async () => {
    expect(await rejection(backend.dial(runtimeDir, 0, Deadline.after(200)))).toMatchObject({ code: "TIMEOUT" });
    const aborted = AbortSignal.abort();
    expect(await rejection(backend.dial(runtimeDir, 0, Deadline.after(9_000, aborted)))).toMatchObject({
      code: "ABORTED",
    });
    expect(await rejection(backend.pause(runtimeDir, Deadline.after(200)))).toMatchObject({ name: "SmolVMError" });
  });

  it("finds that emulation works, if it has it, and leaves nothing of the trial", async () => {
    for (const accelerator of backend.features.accelerators) {
      const failure = await backend.tryAccelerator(accelerator, boot, soon());
      if (accelerator === "tcg") expect(failure).toBeUndefined();
      else expect(["string", "undefined"]).toContain(typeof failure);
    }
    expect(readdirSync(runtimeDir)).toEqual([]);
  });
}

function find(name: string): Backend | undefined {
  try {
    return backendFor(name);
  } catch {
    return undefined;
  }
}

function isOnPath(program: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some((dir) => statOrNone(join(dir, program)));
}

function statOrNone(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
