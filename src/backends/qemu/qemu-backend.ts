// microVMs as QEMU processes: the `microvm` machine, lanes over virtio-serial, QMP for pause and resume.

import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Deadline } from "../../base/deadline.js";
import { pollUntil } from "../../base/sleep.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { waitError } from "../../errors/wait-errors.js";
import { findProgram } from "../../host/find-program.js";
import { runProgram, spawnProgram } from "../../host/process.js";
import type { Accelerator, Backend, MachineDisk, MachineSpec, StartedVmm, VmmEnd, VmmOutputs } from "../backend.js";
import { laneSocket, MONITOR_SOCKET, machineArgv } from "./argv.js";
import { qemuFeatures } from "./features.js";
import { createQcow2Layer } from "./qcow2.js";
import { qmp } from "./qmp.js";
import { tryQemuAccelerator } from "./try-accelerator.js";

/** QEMU's program for each host architecture that the `microvm` machine exists for. */
const PROGRAM_BY_ARCHITECTURE: Readonly<Record<string, string>> = { x64: "qemu-system-x86_64" };

/** Lane connections that fail in these ways may succeed in a moment: QEMU is still starting. */
const NOT_YET = new Set(["ENOENT", "ECONNREFUSED"]);

export class QemuBackend implements Backend {
  readonly name = "qemu";
  readonly features = qemuFeatures(process.platform);

  async identify(deadline: Deadline): Promise<string> {
    const { stdout } = await runProgram([qemuProgram(), "--version"], {
      timeoutMs: deadline.remainingMs,
      signal: deadline.signal,
    });
    return stdout.split("\n")[0]?.trim() ?? "QEMU";
  }

  tryAccelerator(
    accelerator: Accelerator,
    boot: { readonly kernelPath: string; readonly initrdPath: string },
    deadline: Deadline,
  ): Promise<string | undefined> {
    return tryQemuAccelerator(qemuProgram(), { ...boot, accelerator }, deadline);
  }

  async prepareDisk(disk: MachineDisk): Promise<void> {
    if (disk.mode === "isolated") await createQcow2Layer(disk);
  }

  async start(machine: MachineSpec, outputs: VmmOutputs): Promise<StartedVmm> {
    const child = await spawnProgram(machineArgv(qemuProgram(), machine), {
      stdio: ["ignore", outputs.console, outputs.messages],
      detached: true,
      cwd: "/",
      env: {}, // Nothing of the caller's environment is QEMU's business.
    });
    child.unref();
    const ended = new Promise<VmmEnd>((resolve) => {
      child.once("exit", (exitCode, signal) => resolve({ exitCode, signal }));
    });
    return { pid: child.pid as number, ended };
  }

  async dial(runtimeDir: string, lane: number, deadline: Deadline): Promise<Duplex> {
    const path = join(runtimeDir, laneSocket(lane));
    const socket = await pollUntil(() => connect(path), deadline);
    if (socket === undefined) throw waitError(`Connection to lane ${lane}`, deadline);
    return socket;
  }

  async pause(runtimeDir: string, deadline: Deadline): Promise<void> {
    await qmp(join(runtimeDir, MONITOR_SOCKET), [{ execute: "stop" }], deadline);
  }

  async resume(runtimeDir: string, deadline: Deadline): Promise<void> {
    await qmp(join(runtimeDir, MONITOR_SOCKET), [{ execute: "cont" }], deadline);
  }
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
