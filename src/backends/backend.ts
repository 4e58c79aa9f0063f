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
  /** What may carry a machine's frames. */
  readonly linkKinds: readonly MachineLink["kind"][];
  /** Formats of a machine's own disk, and of a base. */
  readonly diskFormats: readonly DiskFormat[];
  /**
   * Whether lanes are still connected after `resume` and `capture`. Where not, the guest has closed its ends, and ours
   * hear of it only when they send: whoever has a lane gives it up then and dials anew.
   */
  readonly keepsLanes: boolean;
}

/** What holds a VMM back that a guest has taken over. */
export interface Confinement {
  /** `jailer`: a user and a root directory of its own, and a seccomp filter; `seccomp`: the filter alone. */
  readonly kind: "jailer" | "seccomp";
  /** Whose the VMM is: a TAP device of its machine has to be this user's. */
  readonly uid: number;
  /** Why it has no jail. */
  readonly reason?: string | undefined;
}

/** The disk a VM boots from. */
export type MachineDisk =
  /** A private layer over files that are only read. `path` is created by {@link Backend.prepareDisk}. */
  | {
      readonly mode: "isolated";
      readonly path: string;
      /** Frozen layers between `path` and the base, the newest first; all made by this backend. */
      readonly layers: readonly string[];
      readonly basePath: string;
      readonly baseFormat: DiskFormat;
      readonly sizeBytes: number;
    }
  /** The given disk itself. */
  | { readonly mode: "shared"; readonly path: string; readonly format: DiskFormat };

export type DiskFormat = "raw" | "qcow2";

/** What is in a machine's memory when it starts. */
export type MachineMemory =
  /** Nothing: it boots. */
  | { readonly from: "boot" }
  /** Nothing: it boots, and its memory is the file at `path`, which is created. For {@link Backend.freeze}. */
  | { readonly from: "recording"; readonly path: string }
  /** A frozen machine goes on from files that are only read: memory is mapped copy-on-write. */
  | { readonly from: "image"; readonly path: string; readonly devicesPath: string };

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
  readonly memory: MachineMemory;
  readonly network: MachineNetwork | undefined;
  /** Directory for sockets, short enough for their paths; only this VM uses it. */
  readonly runtimeDir: string;
}

/** A network device and what is behind it. */
export interface MachineNetwork {
  /** Where its frames go; `undefined` for a device that nothing is behind. */
  readonly link: MachineLink | undefined;
  /** A machine from an image keeps the address that is in the image until its guest sets this one. */
  readonly macAddress: string;
}

/** What carries a machine's frames. */
export type MachineLink =
  /** Whoever connects to a listening unix socket, one at a time; the VMM inherits the descriptor. */
  | { readonly kind: "socket"; readonly fd: number }
  /** A TAP device of the host that exists and that the VMM may open. */
  | { readonly kind: "tap"; readonly device: string };

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
  /** A lane that only its starter has, connected before the guest runs; it ends with this program. */
  readonly ownLane: Duplex;
  /** Resolves when it has ended. */
  readonly ended: Promise<VmmEnd>;
}

/** How a VMM ended. */
export interface VmmEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A machine that runs or is paused, to be copied while it goes on. */
export interface CaptureSource {
  /** Pid of its VMM. */
  readonly pid: number;
  readonly runtimeDir: string;
  readonly memSizeMib: number;
  /** What its memory was made from; unchanged parts are taken from there. `undefined`: it booted. */
  readonly memoryBasePath: string | undefined;
  /** SmolVM's own program `ramcopy`. */
  readonly copierPath: string;
  readonly disk: Extract<MachineDisk, { mode: "isolated" }>;
  /**
   * Called right before a running machine is stopped. What it gives is called as soon as the machine runs again, also
   * after a failure. Neither throws.
   */
  readonly quiesce?: (() => Promise<() => Promise<void>>) | undefined;
}

/** Files that a capture makes, each mode 0600; none may exist yet. */
export interface CaptureTarget {
  readonly memoryPath: string;
  readonly devicesPath: string;
  /** What is in the disk's top layer. The frozen layers and the base are not copied. */
  readonly layerPath: string;
}

/** What a capture cost. */
export interface Captured {
  /** How long the vCPUs stood still, in milliseconds. */
  readonly pauseMs: number;
  /** The same with `quiesce` and what it gave. */
  readonly quietMs: number;
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
  /**
   * All that shapes a machine's hardware as the guest sees it, as text: whatever differs between two machines that
   * cannot go on from the same image is different in it. Paths of this VM's own files are not in it.
   */
  shapeOf(machine: MachineSpec): string;
  /** Makes the private layer of an isolated disk; nothing for a shared one. */
  prepareDisk(disk: MachineDisk): Promise<void>;
  /** Starts a VMM; the guest's vCPUs run when it resolves. */
  start(machine: MachineSpec, outputs: VmmOutputs, deadline: Deadline): Promise<StartedVmm>;
  /** Connects to a lane of a running VMM. One client at a time: callers lease lanes. */
  dial(runtimeDir: string, lane: number, deadline: Deadline): Promise<Duplex>;
  /**
   * Stops a machine whose memory is `recording`, for good: afterwards its memory file, the disk's layer and
   * `devicesPath` are an image. The VMM still has to be ended.
   */
  freeze(runtimeDir: string, devicesPath: string, deadline: Deadline): Promise<void>;
  /**
   * Copies a machine at one moment. It stands still for a part of that time and then goes on as before, paused if it
   * was paused; also after a failure, which leaves no file. May be called again while a dead program's earlier call
   * has left the machine paused.
   *
   * @throws {HOST_UNSUPPORTED} when the host does not let one process read another's memory.
   * @throws {STORAGE_FAILED} {TIMEOUT} {ABORTED} {CHANNEL_CLOSED}
   */
  capture(source: CaptureSource, target: CaptureTarget, deadline: Deadline): Promise<Captured>;
  /** Stops the vCPUs. Idempotent. */
  pause(runtimeDir: string, deadline: Deadline): Promise<void>;
  /** Lets the vCPUs run. Idempotent. */
  resume(runtimeDir: string, deadline: Deadline): Promise<void>;
  /**
   * How the VMM of a machine would be confined here and now; nothing is started. A TAP device that is not there yet
   * counts as one that will be made for the user that this names.
   */
  confinementOf?(machine: MachineSpec, deadline: Deadline): Promise<Confinement>;
  /** Asks a guest through its hardware to shut down, as a key would; whether it obeys is not known. */
  askToShutDown?(runtimeDir: string, deadline: Deadline): Promise<void>;
  /**
   * Removes what a VMM has left outside of its runtime directory, which is removed after that. It has ended, or was
   * never started. Idempotent.
   *
   * @throws {STORAGE_FAILED}
   */
  release?(runtimeDir: string, deadline: Deadline): Promise<void>;
}
