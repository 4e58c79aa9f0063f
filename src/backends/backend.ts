// What every backend offers, and what is legal when. The guest's channel, commands and files are written once above
// all of them: a backend only starts a VMM, dials lanes into it, and stops and continues its vCPUs.

import type { Duplex } from "node:stream";
import type { Deadline } from "../base/deadline.js";

/** How a guest's instructions are executed. */
export type Accelerator = "kvm" | "hvf" | "tcg";

/** What a backend can do; callers ask this rather than its name. */
export interface BackendFeatures {
  /** Connections to the guest that can exist at once. */
  readonly laneCount: number;
  /** Accelerators worth trying on this platform, best first. */
  readonly accelerators: readonly Accelerator[];
}

/** The disk a VM boots from. */
export type MachineDisk =
  /** A private layer over a base that is only read. `path` is created by {@link Backend.prepareDisk}. */
  | {
      readonly mode: "isolated";
      readonly path: string;
      readonly basePath: string;
      readonly baseFormat: DiskFormat;
      readonly sizeBytes: number;
    }
  /** The given disk itself. */
  | { readonly mode: "shared"; readonly path: string; readonly format: DiskFormat };

export type DiskFormat = "raw" | "qcow2";

/** A machine to start. All paths are absolute. */
export interface MachineSpec {
  readonly vmId: string;
  readonly accelerator: Accelerator;
  readonly vcpuCount: number;
  readonly memSizeMib: number;
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** Appended to the kernel command line. */
  readonly bootArgs: string;
  readonly disk: MachineDisk;
  /** Ethernet frames go to and come from this unix socket. */
  readonly network: { readonly socketPath: string; readonly macAddress: string } | undefined;
  /** Directory for sockets, short enough for their paths; only this VM uses it. */
  readonly runtimeDir: string;
}

/** Where a VMM's outputs go; descriptors or streams that a child can inherit. */
export interface VmmOutputs {
  /** The guest's serial console. */
  readonly console: number | import("node:stream").Stream;
  /** The VMM's own messages. */
  readonly messages: number | import("node:stream").Stream;
}

/** A VMM that was started. */
export interface StartedVmm {
  /** It leads a process group of its own and survives this program. */
  readonly pid: number;
  /** Resolves when it has ended. */
  readonly ended: Promise<VmmEnd>;
}

/** How a VMM ended. */
export interface VmmEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One kind of VMM. Holds no state of any VM: whatever a call needs is in its arguments. */
export interface Backend {
  readonly name: string;
  readonly features: BackendFeatures;
  /**
   * Finds the VMM on this host.
   *
   * @returns A name for exactly this VMM, to key verdicts by.
   * @throws {HOST_UNSUPPORTED} with the command that installs it.
   */
  identify(deadline: Deadline): Promise<string>;
  /**
   * Boots the kernel for a moment to see whether an accelerator works; leaves nothing.
   *
   * @returns `undefined` when it works, else the reason why not.
   */
  tryAccelerator(
    accelerator: Accelerator,
    boot: { readonly kernelPath: string; readonly initrdPath: string },
    deadline: Deadline,
  ): Promise<string | undefined>;
  /** Makes the private layer of an isolated disk; nothing for a shared one. */
  prepareDisk(disk: MachineDisk): Promise<void>;
  /** Starts a VMM; the guest's vCPUs run when it resolves. */
  start(machine: MachineSpec, outputs: VmmOutputs, deadline: Deadline): Promise<StartedVmm>;
  /** Connects to a lane of a running VMM. One client at a time: callers lease lanes. */
  dial(runtimeDir: string, lane: number, deadline: Deadline): Promise<Duplex>;
  /** Stops the vCPUs. Idempotent. */
  pause(runtimeDir: string, deadline: Deadline): Promise<void>;
  /** Lets the vCPUs run. Idempotent. */
  resume(runtimeDir: string, deadline: Deadline): Promise<void>;
}
