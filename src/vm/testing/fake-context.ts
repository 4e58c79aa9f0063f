// A state directory with records of VMs that were never made, for tests of what is done with records.

import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { Slots } from "../../base/slots.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { findProgram } from "../../host/find-program.js";
import { spawnProgram } from "../../host/process.js";
import { identifyProcess, type ProcessIdentity, selfIdentity, signalProcess } from "../../host/process-identity.js";
import type { ImageStore } from "../../images/image-store.js";
import type { CaptureKind } from "../../storage/capture-store.js";
import { scratchCacheStore, scratchDirectory, scratchStore } from "../../storage/testing/scratch-store.js";
import type { VmRow, VmStatus } from "../../storage/vm-store.js";
import { CAPTURES_DIRECTORY, captureFiles, encodeCapture } from "../capture-spec.js";
import { HookRegistry } from "../command-hooks.js";
import type { VmContext } from "../context.js";
import { GuestChannels } from "../guest-channels.js";
import { TapChecks } from "../tap-checks.js";
import { encodeSpec, type VmSpec } from "../vm-spec.js";

/** There are none, and none can be made. */
const NO_TAPS = { leases: { held: () => [] }, networks: { reclaim: async () => [] } } as unknown as ReturnType<
  VmContext["taps"]
>;

/** A context in a new directory; what it lacks, such as images, says so when it is used. */
export function fakeContext(stateDir = scratchDirectory()): VmContext {
  const store = scratchStore(stateDir);
  const missing = (): never => {
    throw new SmolVMError("INTERNAL", "A fake context has no images");
  };
  const paths = { stateDir, cacheDir: join(stateDir, "cache"), runtimeDir: join(stateDir, "run") };
  const images = new Proxy({} as ImageStore, { get: missing });
  return {
    paths,
    store,
    images,
    channels: new GuestChannels(store),
    hooks: new HookRegistry(),
    starts: new Slots(1),
    cache: () => scratchCacheStore(stateDir),
    taps: () => NO_TAPS,
    tapChecks: new TapChecks(),
    close: missing,
    isClosed: () => false,
  };
}

/** What the record of a VM of this id holds. */
export function specOf(ctx: VmContext, id: string, changes: Partial<VmSpec> = {}): VmSpec {
  const directory = join(ctx.paths.stateDir, "vms", id);
  const base = { layers: [], basePath: "/images/rootfs.ext4", baseFormat: "raw" as const, sizeBytes: 2 ** 30 };
  return {
    backend: "qemu",
    vmm: "QEMU",
    accelerator: "tcg",
    vcpuCount: 2,
    memSizeMib: 512,
    image: { name: "debian", digest: "d".repeat(64) },
    kernelPath: "/images/vmlinux",
    initrdPath: "/images/initramfs.cpio",
    bootArgs: "",
    disk: { mode: "isolated", path: join(directory, "disk.qcow2"), ...base },
    isPristine: false,
    memoryBasePath: null,
    origin: { kind: "boot", id: null },
    growRoot: false,
    guestNumber: 0,
    networkMode: "none",
    egress: "open",
    rateLimitMbps: null,
    mounts: [],
    machineId: "0".repeat(32),
    bootTimeoutMs: 1_000,
    retainDiskOnDelete: false,
    directory,
    ...changes,
  };
}

/** A recorded VM with a directory and a disk in it. */
export interface RecordedVm {
  readonly id?: string;
  readonly spec?: Partial<VmSpec>;
  readonly keeper?: ProcessIdentity;
  /** `"creating"` leaves it as it is during creation. */
  readonly status: VmStatus | "creating";
}

export async function recordVm(ctx: VmContext, vm: RecordedVm): Promise<VmRow> {
  const id = vm.id ?? "a1";
  const self = await selfIdentity();
  const spec = specOf(ctx, id, vm.spec);
  mkdirSync(spec.directory, { recursive: true });
  writeFileSync(join(spec.directory, "disk.qcow2"), "the disk");
  const guestNumber = ctx.store.vms.freeGuestNumber();
  ctx.store.vms.insert({ id, spec: encodeSpec(spec), guestNumber, mover: self, keeper: vm.keeper });
  ctx.store.resources.plan(id, [{ kind: "directory", name: spec.directory }]);
  if (vm.status !== "creating") ctx.store.vms.settle(id, self, { status: vm.status });
  return ctx.store.vms.find(id) as VmRow;
}

/** A capture on record with a directory, complete unless told otherwise. */
export interface RecordedCapture {
  readonly id: string;
  readonly kind: CaptureKind;
  /** Default `"a1"`. */
  readonly vmId?: string;
  readonly name?: string;
  /** What lay below the captured layer. */
  readonly layers?: readonly string[];
  readonly isComplete?: boolean;
  /** The process that makes or holds it. Default: nobody, for a complete one. */
  readonly maker?: ProcessIdentity;
}

/** @returns Its directory, with a layer of a disk in it. */
export async function recordCapture(ctx: VmContext, capture: RecordedCapture): Promise<string> {
  const { id, kind, vmId = "a1", name, layers = [], isComplete = true, maker } = capture;
  const directory = join(ctx.paths.stateDir, CAPTURES_DIRECTORY, id);
  const { layerPath } = captureFiles(directory);
  const vm = specOf(ctx, vmId);
  const disk = { ...vm.disk, layers: [layerPath, ...layers] } as VmSpec["disk"];
  const spec = { vm: { ...vm, disk }, shape: "s", baseIdentity: "missing", directory, allocatedBytes: 4096 };
  mkdirSync(directory, { recursive: true });
  writeFileSync(layerPath, "the layer");
  const self = await selfIdentity();
  ctx.store.captures.insert({ id, kind, vmId, name, spec: encodeCapture(spec), maker: maker ?? self });
  if (isComplete) ctx.store.captures.complete(id, encodeCapture(spec));
  if (isComplete && maker === undefined) ctx.store.captures.release(id);
  return directory;
}

/** A process that only sleeps, from a file of the given name; killed at the end of the test. */
export async function sleepingProcess(name: string, cwd: string): Promise<ProcessIdentity> {
  const program = join(scratchDirectory(), name);
  copyFileSync(findProgram("sleep") ?? "/bin/sleep", program);
  const child = await spawnProgram([program, "60"], { stdio: "ignore", detached: true, cwd });
  child.unref();
  const identity = await identifyProcess(child.pid ?? 0);
  if (identity === undefined) throw new SmolVMError("INTERNAL", `Process "${name}" ended at once`);
  onTestFinished(async () => {
    await signalProcess(identity, "SIGKILL");
  });
  return identity;
}
