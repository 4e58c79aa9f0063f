// What a backend tells Firecracker, as types. Names are those of Firecracker's API description in camelCase, so units
// are where its prose has them. Left out: what is deprecated there (`cpu_template`, `vsock_id`, `mem_file_path`,
// `enable_diff_snapshots`) and disks over vhost-user (`socket`).

/** So many tokens at once, refilled at a constant rate; a token is a byte or an operation. */
export interface TokenBucket {
  /** Tokens that it holds. 0 means no limit. */
  readonly size: number;
  /** Milliseconds until an empty bucket is full again. 0 means no limit. */
  readonly refillTime: number;
  /** Tokens beside `size` that are there once, at the start. Default 0. */
  readonly oneTimeBurst?: number | undefined;
}

/** Limits of a device; a bucket that is left out limits nothing. */
export interface RateLimiter {
  /** A token is a byte. */
  readonly bandwidth?: TokenBucket | undefined;
  /** A token is an operation. */
  readonly ops?: TokenBucket | undefined;
}

export interface MachineConfig {
  /** 1 to 32; with `smt`, 1 or even. */
  readonly vcpuCount: number;
  readonly memSizeMib: number;
  /** Two vCPUs are threads of one core. x86_64 only. Default false. */
  readonly smt?: boolean | undefined;
  /** Lets `Diff` snapshots hold exactly the pages that were written to. Default false. */
  readonly trackDirtyPages?: boolean | undefined;
  /** Pages behind the guest's memory; with `2M`, `memSizeMib` is even. Default `None`. */
  readonly hugePages?: "None" | "2M" | undefined;
}

export interface BootSource {
  readonly kernelImagePath: string;
  readonly initrdPath?: string | undefined;
  /** At most 2047 bytes (src/vmm/src/arch: CMDLINE_MAX_SIZE with its NUL). Default: Firecracker's own. */
  readonly bootArgs?: string | undefined;
}

export interface Drive {
  /** Letters, digits and `_`. */
  readonly driveId: string;
  /** The kernel gets `root=/dev/vda` (or `partuuid`); at most one drive. */
  readonly isRootDevice: boolean;
  readonly pathOnHost: string;
  /** Default false. */
  readonly isReadOnly?: boolean | undefined;
  /** `Writeback`: the guest can flush, and Firecracker calls fsync then. Default `Unsafe`: it cannot. */
  readonly cacheType?: "Unsafe" | "Writeback" | undefined;
  /** `Async` is io_uring, for hosts from Linux 5.10.51. Default `Sync`. */
  readonly ioEngine?: "Sync" | "Async" | undefined;
  readonly rateLimiter?: RateLimiter | undefined;
  /** Partition that is the root, for a root device. */
  readonly partuuid?: string | undefined;
}

/** A change of a drive; at least one of the two. */
export interface DriveUpdate {
  readonly driveId: string;
  /** The file to go on with; also the same one, when its size has changed. */
  readonly pathOnHost?: string | undefined;
  readonly rateLimiter?: RateLimiter | undefined;
}

export interface NetworkInterface {
  /** Letters, digits and `_`. */
  readonly ifaceId: string;
  /** A TAP device, at most 15 bytes; made if there is none and the VMM may. */
  readonly hostDevName: string;
  /** Six hexadecimal pairs with colons. Default: none is offered to the guest. */
  readonly guestMac?: string | undefined;
  /** 68 to 65535. Default: none is offered to the guest. */
  readonly mtu?: number | undefined;
  /** To the guest. */
  readonly rxRateLimiter?: RateLimiter | undefined;
  /** From the guest. */
  readonly txRateLimiter?: RateLimiter | undefined;
}

export interface Vsock {
  /** From 3 on: lower ones have a meaning (vsock(7)). */
  readonly guestCid: number;
  /** The VMM makes this unix socket and listens on it; nothing may be there yet. At most 107 bytes (unix(7)). */
  readonly udsPath: string;
}

export interface Entropy {
  readonly rateLimiter?: RateLimiter | undefined;
}

export interface Balloon {
  /** Memory to take from the guest. */
  readonly amountMib: number;
  /** The guest takes memory back when it has none left. */
  readonly deflateOnOom: boolean;
  /** Seconds; 0, the default, means no statistics ever. */
  readonly statsPollingIntervalS?: number | undefined;
  /** Default false. */
  readonly freePageHinting?: boolean | undefined;
  /** The guest tells which pages are free, and the host has them back. Default false. */
  readonly freePageReporting?: boolean | undefined;
}

export interface BalloonUpdate {
  readonly amountMib: number;
}

export interface Logger {
  /** A file or a named pipe. Default: standard output. */
  readonly logPath?: string | undefined;
  /** Default `Info`. */
  readonly level?: "Error" | "Warning" | "Info" | "Debug" | "Trace" | "Off" | undefined;
  /** Default false. */
  readonly showLevel?: boolean | undefined;
  /** Default false. */
  readonly showLogOrigin?: boolean | undefined;
  /** Only messages of this module of Firecracker. */
  readonly module?: string | undefined;
}

export interface Metrics {
  /** A file or a named pipe. */
  readonly metricsPath: string;
}

export interface Serial {
  /** A file or a named pipe that gets what the guest writes; it is opened at the start. Default: standard output. */
  readonly serialOutPath?: string | undefined;
  /** A token is a byte. What comes faster is lost. Default: no limit. */
  readonly rateLimiter?: TokenBucket | undefined;
}

export interface SnapshotFiles {
  /** Gets the state of vCPUs and devices. */
  readonly snapshotPath: string;
  /** Gets the memory. A file of the same length is written over in place, also under whoever maps it. */
  readonly memFilePath: string;
  /** `Diff` writes only pages that have changed since the last one, into the file that is there. Default `Full`. */
  readonly snapshotType?: "Full" | "Diff" | undefined;
}

export interface SnapshotSource {
  readonly snapshotPath: string;
  /** The file is mapped privately: read as the guest needs it, never written. */
  readonly memBackend: { readonly backendType: "File"; readonly backendPath: string };
  /** As in {@link MachineConfig}; a snapshot does not keep it. Default false. */
  readonly trackDirtyPages?: boolean | undefined;
  /** The guest runs at once. Default false. */
  readonly resumeVm?: boolean | undefined;
  /** TAP devices in place of those in the snapshot. */
  readonly networkOverrides?: readonly { readonly ifaceId: string; readonly hostDevName: string }[] | undefined;
  /** The socket to listen on in place of the one in the snapshot. */
  readonly vsockOverride?: { readonly udsPath: string } | undefined;
  /** kvm-clock jumps to now. x86_64, hosts from Linux 5.16. Default false: it goes on from the snapshot's moment. */
  readonly clockRealtime?: boolean | undefined;
}
