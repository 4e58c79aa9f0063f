// microVMs as Firecracker processes: KVM alone, lanes over vsock, its API for all that is said to a running one.

import { join } from "node:path";
import type { Duplex } from "node:stream";
import { Deadline } from "../../base/deadline.js";
import { hostArchitecture } from "../../host/architecture.js";
import { type FoundFirecracker, findFirecracker } from "../../host/firecracker/find-firecracker.js";
import { hostPaths } from "../../host/paths.js";
import type {
  Accelerator,
  Backend,
  Captured,
  CaptureSource,
  CaptureTarget,
  Confinement,
  MachineDisk,
  MachineSpec,
  StartedVmm,
  VmmOutputs,
} from "../backend.js";
import { sendCtrlAltDel } from "./api/requests.js";
import { captureMachine } from "./capture.js";
import { requireRaw } from "./check-machine.js";
import { confinementOf } from "./confinement.js";
import { copyDisk } from "./disk-copy.js";
import { AGENT_PORT, firecrackerFeatures } from "./features.js";
import { freezeMachine } from "./freeze.js";
import { vsockSocket } from "./places.js";
import { PLATFORMS, type Platform } from "./platform.js";
import { removeVmmDirectory } from "./release.js";
import { pauseMachine, resumeMachine, withClient } from "./run-state.js";
import { shapeOf } from "./shape.js";
import { startMachine } from "./start-machine.js";
import { tryKvm } from "./try-accelerator.js";
import { connectToAgent } from "./vsock.js";

/** Longest copy of a disk, in milliseconds: 100 GiB of data at 200 MiB a second. */
const DISK_COPY_LIMIT_MS = 600_000;

/** What a backend depends on; by default the host's own. */
export interface FirecrackerBackendOptions {
  /** @throws {HOST_UNSUPPORTED} */
  readonly find?: ((deadline: Deadline) => Promise<FoundFirecracker>) | undefined;
  /** Directory of the jails; it has to be where device files and programs work. */
  readonly jailsDir?: string | undefined;
}

export class FirecrackerBackend implements Backend {
  readonly name = "firecracker";
  readonly features = firecrackerFeatures(process.platform);
  readonly #find: (deadline: Deadline) => Promise<FoundFirecracker>;
  readonly #ownJailsDir: string | undefined;

  constructor(options: FirecrackerBackendOptions = {}) {
    this.#find = options.find ?? ((deadline) => findFirecracker(deadline));
    this.#ownJailsDir = options.jailsDir;
  }

  async identify(deadline: Deadline): Promise<string> {
    return (await this.#find(deadline)).firecracker.fingerprint;
  }

  async tryAccelerator(
    accelerator: Accelerator,
    boot: { readonly kernelPath: string; readonly initrdPath: string },
    deadline: Deadline,
  ): Promise<string | undefined> {
    if (!this.features.accelerators.includes(accelerator))
      return `Firecracker has no accelerator "${accelerator}" here`;
    return tryKvm({ ...boot, found: await this.#find(deadline), platform: platform() }, deadline);
  }

  shapeOf(machine: MachineSpec): string {
    return shapeOf(machine, platform());
  }

  async prepareDisk(disk: MachineDisk): Promise<void> {
    requireRaw(disk);
    if (disk.mode === "shared") return;
    const { path, layers, basePath, sizeBytes } = disk;
    // Each layer holds all that is below it.
    await copyDisk({ from: layers[0] ?? basePath, to: path, sizeBytes }, Deadline.after(DISK_COPY_LIMIT_MS));
  }

  async start(machine: MachineSpec, outputs: VmmOutputs, deadline: Deadline): Promise<StartedVmm> {
    const found = await this.#find(deadline);
    const jailsDir = this.#jailsDir();
    const confinement = confinementOf(machine, { found, jailsDir });
    return startMachine(machine, { found, platform: platform(), confinement, jailsDir }, outputs, deadline);
  }

  dial(runtimeDir: string, _lane: number, deadline: Deadline): Promise<Duplex> {
    return connectToAgent({ socketPath: vsockSocket(runtimeDir), port: AGENT_PORT }, deadline);
  }

  freeze(runtimeDir: string, devicesPath: string, deadline: Deadline): Promise<void> {
    return freezeMachine(runtimeDir, devicesPath, deadline);
  }

  capture(source: CaptureSource, target: CaptureTarget, deadline: Deadline): Promise<Captured> {
    return captureMachine(source, target, deadline);
  }

  pause(runtimeDir: string, deadline: Deadline): Promise<void> {
    return pauseMachine(runtimeDir, deadline);
  }

  resume(runtimeDir: string, deadline: Deadline): Promise<void> {
    return resumeMachine(runtimeDir, deadline);
  }

  async confinementOf(machine: MachineSpec, deadline: Deadline): Promise<Confinement> {
    return confinementOf(machine, { found: await this.#find(deadline), jailsDir: this.#jailsDir() });
  }

  async askToShutDown(runtimeDir: string, deadline: Deadline): Promise<void> {
    if (!platform().hasKeyboard) return;
    await withClient(runtimeDir, (client) => client.call(sendCtrlAltDel(), deadline));
  }

  release(runtimeDir: string, deadline: Deadline): Promise<void> {
    return removeVmmDirectory(runtimeDir, deadline);
  }

  #jailsDir(): string {
    return this.#ownJailsDir ?? join(hostPaths().stateDir, "jails");
  }
}

/** @throws {HOST_UNSUPPORTED} */
function platform(): Platform {
  return PLATFORMS[hostArchitecture()];
}
