// Machines that a contract test starts without the rest of SmolVM, each in a directory of its own.

import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import type { Backend, CaptureSource, CaptureTarget, MachineSpec, StartedVmm } from "../../src/backends/backend.js";
import type { GuestConnection as Connection } from "../../src/guest/connection.js";
import { Deadline, GuestConnection, identifyProcess, VmManager } from "../support/smolvm.js";

const SETTLE_MS = 60_000;
const COPIER = join(import.meta.dirname, `../../dist/programs/ramcopy-${process.arch === "x64" ? "amd64" : "arm64"}`);

export const soon = () => Deadline.after(SETTLE_MS);

/** A machine that runs. */
export interface Machine {
  readonly spec: MachineSpec;
  readonly vmm: StartedVmm;
  readonly connection: Connection;
  /** Runs a shell line; fails unless it exits with 0. Gives its output, without white space around it. */
  sh(line: string): Promise<string>;
}

/** A frozen machine or a copy of one, to start others from. */
export interface Image {
  readonly memory: Extract<MachineSpec["memory"], { from: "image" }>;
  readonly layers: readonly string[];
}

export class MachineGroup {
  readonly backend: Backend;
  readonly work = mkdtempSync(join(tmpdir(), "smolvm-cc-"));
  readonly #accelerator: MachineSpec["accelerator"];
  readonly #running = new Set<StartedVmm>();
  #boot: { kernelPath: string; initrdPath: string; rootfsPath: string; rootfsSizeBytes: number } | undefined;
  #count = 0;

  constructor(backend: Backend, accelerator: MachineSpec["accelerator"]) {
    this.backend = backend;
    this.#accelerator = accelerator;
  }

  /** A place for a file or directory that is not there yet. */
  place(): string {
    this.#count += 1;
    return join(this.work, `p${this.#count}`);
  }

  async start(changes: Partial<MachineSpec> & { readonly layers?: readonly string[] } = {}): Promise<Machine> {
    const { layers = [], ...rest } = changes;
    const boot = await this.#bootFiles();
    const runtimeDir = this.place();
    mkdirSync(runtimeDir);
    const spec: MachineSpec = {
      vmId: "contract",
      accelerator: this.#accelerator,
      vcpuCount: 2,
      memSizeMib: 256,
      kernelPath: boot.kernelPath,
      initrdPath: boot.initrdPath,
      bootArgs: "",
      disk: {
        mode: "isolated",
        path: join(runtimeDir, "disk"),
        layers,
        basePath: boot.rootfsPath,
        baseFormat: "raw",
        sizeBytes: boot.rootfsSizeBytes,
      },
      memory: { from: "boot" },
      network: undefined,
      runtimeDir,
      ...rest,
    };
    await this.backend.prepareDisk(spec.disk);
    const [console, messages] = ["console.log", "messages.log"].map((name) => openSync(join(runtimeDir, name), "a"));
    const vmm = await this.backend.start(spec, { console: console!, messages: messages! }, soon());
    closeSync(console!);
    closeSync(messages!);
    this.#running.add(vmm);
    const connection = await GuestConnection.open(vmm.ownLane, soon());
    return { spec, vmm, connection, sh: (line) => shell(connection, line) };
  }

  /** Freezes a machine that is recorded, and ends its VMM. */
  async freeze(machine: Machine): Promise<Image> {
    const { memory, disk, runtimeDir } = machine.spec;
    if (memory.from !== "recording" || disk.mode !== "isolated") throw new Error("Not recorded");
    const devicesPath = this.place();
    await this.backend.freeze(runtimeDir, devicesPath, soon());
    await this.end(machine);
    return { memory: { from: "image", path: memory.path, devicesPath }, layers: [disk.path, ...disk.layers] };
  }

  source({ spec, vmm }: Pick<Machine, "spec" | "vmm">): CaptureSource {
    if (spec.disk.mode !== "isolated") throw new Error("Not isolated");
    const memoryBasePath = spec.memory.from === "image" ? spec.memory.path : undefined;
    const { runtimeDir, memSizeMib, disk } = spec;
    return { pid: vmm.pid, runtimeDir, memSizeMib, memoryBasePath, copierPath: COPIER, disk };
  }

  target(): CaptureTarget {
    return { memoryPath: this.place(), devicesPath: this.place(), layerPath: this.place() };
  }

  async capture(machine: Machine): Promise<Image & { readonly pauseMs: number }> {
    const [source, target] = [this.source(machine), this.target()];
    const { pauseMs } = await this.backend.capture(source, target, soon());
    const memory = { from: "image", path: target.memoryPath, devicesPath: target.devicesPath } as const;
    return { memory, layers: [target.layerPath, ...source.disk.layers], pauseMs };
  }

  async end({ vmm }: Pick<Machine, "vmm">): Promise<void> {
    if ((await identifyProcess(vmm.pid)) !== undefined) process.kill(-vmm.pid, "SIGKILL");
    await vmm.ended;
    this.#running.delete(vmm);
  }

  async endAll(): Promise<void> {
    for (const vmm of this.#running) await this.end({ vmm });
  }

  removeFiles(): void {
    rmSync(this.work, { recursive: true, force: true });
  }

  async #bootFiles() {
    if (this.#boot === undefined) {
      await using manager = new VmManager();
      this.#boot = await manager.images.resolve("debian");
    }
    return this.#boot;
  }
}

async function shell(connection: Connection, line: string): Promise<string> {
  let output = "";
  const request = { command: { shellLine: line }, hasStdin: false, outputLimitBytes: undefined };
  const { exited } = connection.exec(request, (_stream, bytes) => {
    output += bytes.toString("utf8");
  });
  const exit = await exited;
  if (!("exitCode" in exit) || exit.exitCode !== 0) throw new Error(`"${line}" gave ${inspect(exit)}: ${output}`);
  return output.trim();
}
