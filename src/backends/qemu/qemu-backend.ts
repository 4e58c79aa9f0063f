// microVMs as QEMU processes: the `microvm` machine, lanes over virtio-serial, QMP for all that is said to a running one.

import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Deadline } from "../../base/deadline.js";
import { pollUntil } from "../../base/sleep.js";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { waitError } from "../../errors/wait-errors.js";
import { findProgram } from "../../host/find-program.js";
import { spawnProgram } from "../../host/process.js";
import type {
  Accelerator,
  Backend,
  Captured,
  CaptureSource,
  CaptureTarget,
  MachineDisk,
  MachineMemory,
  MachineSpec,
  StartedVmm,
  VmmEnd,
  VmmOutputs,
} from "../backend.js";
import { laneSocket, MONITOR_SOCKET, machineArgv } from "./argv.js";
import { captureMachine } from "./capture.js";
import { confinedArgv } from "./confine.js";
import { freezeMachine, makeFile } from "./device-state.js";
import { qemuFeatures } from "./features.js";
import { identifyQemu } from "./identify.js";
import { OWN_LANE_FD } from "./memory-options.js";
import { layerOver } from "./own-layer.js";
import { createQcow2Layer } from "./qcow2.js";
import { qmp } from "./qmp.js";
import { shapeOf } from "./shape.js";
import { tryQemuAccelerator } from "./try-accelerator.js";

/** QEMU's program for each host architecture that the `microvm` machine exists for. */
const PROGRAM_BY_ARCHITECTURE: Readonly<Record<string, string>> = { x64: "qemu-system-x86_64" };

/** Lane connections that fail in these ways may succeed in a moment: QEMU is still starting. */
const NOT_YET = new Set(["ENOENT", "ECONNREFUSED"]);

export class QemuBackend implements Backend {
  readonly name = "qemu";
  readonly features = qemuFeatures(process.platform);

  identify(deadline: Deadline): Promise<string> {
    return identifyQemu(qemuProgram(), deadline);
  }

  tryAccelerator(
    accelerator: Accelerator,
    boot: { readonly kernelPath: string; readonly initrdPath: string },
    deadline: Deadline,
  ): Promise<string | undefined> {
    return tryQemuAccelerator(qemuProgram(), { ...boot, accelerator }, deadline);
  }

  shapeOf(machine: MachineSpec): string {
    return shapeOf(machine);
  }

  async prepareDisk(disk: MachineDisk): Promise<void> {
    if (disk.mode === "isolated") await createQcow2Layer(layerOver(disk));
  }

  async start(machine: MachineSpec, outputs: VmmOutputs): Promise<StartedVmm> {
    // QEMU would make it too, readable to all.
    if (machine.memory.from === "recording") await makeFile(machine.memory.path);
    const devices = await openDevices(machine.memory);
    try {
      const child = await spawnProgram(confinedArgv(machineArgv(qemuProgram(), machine)), {
        // In the order of OWN_LANE_FD, DEVICES_FD and NETWORK_FD.
        stdio: ["ignore", outputs.console, outputs.messages, "pipe", devices?.fd ?? "ignore", socketOf(machine)],
        detached: true,
        cwd: "/",
        env: {}, // Nothing of the caller's environment is QEMU's business.
      });
      child.unref();
      const ended = new Promise<VmmEnd>((resolve) => {
        child.once("exit", (exitCode, signal) => resolve({ exitCode, signal }));
      });
      return { pid: child.pid as number, ownLane: ownLaneOf(child), ended };
    } finally {
      await devices?.close();
    }
  }

  async dial(runtimeDir: string, lane: number, deadline: Deadline): Promise<Duplex> {
    const path = join(runtimeDir, laneSocket(lane));
    const socket = await pollUntil(() => connect(path), deadline);
    if (socket === undefined) throw waitError(`Connection to lane ${lane}`, deadline);
    return socket;
  }

  freeze(runtimeDir: string, devicesPath: string, deadline: Deadline): Promise<void> {
    return freezeMachine(join(runtimeDir, MONITOR_SOCKET), devicesPath, deadline);
  }

  capture(source: CaptureSource, target: CaptureTarget, deadline: Deadline): Promise<Captured> {
    return captureMachine(source, target, deadline);
  }

  async pause(runtimeDir: string, deadline: Deadline): Promise<void> {
    await qmp(join(runtimeDir, MONITOR_SOCKET), [{ execute: "stop" }], deadline);
  }

  async resume(runtimeDir: string, deadline: Deadline): Promise<void> {
    await qmp(join(runtimeDir, MONITOR_SOCKET), [{ execute: "cont" }], deadline);
  }
}

/** What the child gets as NETWORK_FD. */
function socketOf({ network }: MachineSpec): number | "ignore" {
  return network?.link?.kind === "socket" ? network.link.fd : "ignore";
}

/** @throws {HOST_UNSUPPORTED} */
function qemuProgram(): string {
  const name = PROGRAM_BY_ARCHITECTURE[process.arch];
  if (name === undefined) {
    throw new SmolVMError("HOST_UNSUPPORTED", `The QEMU backend does not support the architecture "${process.arch}"`, {
      details: { architecture: process.arch },
    });
  }
  const path = findProgram(name);
  if (path === undefined) {
    throw new SmolVMError("HOST_UNSUPPORTED", `Cannot start microVMs: "${name}" is not installed`, {
      details: { program: name },
      hint: "Install it with `smolvm setup`, or on Debian and Ubuntu with: apt-get install qemu-system-x86",
    });
  }
  return path;
}

/** The file that a frozen machine goes on from, for the child to inherit. */
async function openDevices(memory: MachineMemory): Promise<FileHandle | undefined> {
  if (memory.from !== "image") return undefined;
  try {
    return await open(memory.devicesPath, "r");
  } catch (error) {
    throw fileError("Opening the device state of a frozen machine", memory.devicesPath, error);
  }
}

function ownLaneOf(child: Awaited<ReturnType<typeof spawnProgram>>): Duplex {
  // Node.js makes a pair of sockets for a "pipe", so it goes both ways.
  const lane = child.stdio[OWN_LANE_FD] as Socket;
  lane.on("error", () => {}); // Also while nobody listens yet: that the VMM ended is no news here.
  lane.unref(); // Whoever waits for something on it holds the program; a lane that nobody took does not.
  return lane;
}

/** @returns The connected socket, or `undefined` when nobody listens yet. */
async function connect(path: string): Promise<Socket | undefined> {
  const socket = createConnection(path);
  try {
    await once(socket, "connect");
    return socket;
  } catch (error) {
    socket.destroy();
    if (NOT_YET.has((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw new SmolVMError("CHANNEL_CLOSED", `Cannot connect to "${path}"`, { cause: error });
  }
}
