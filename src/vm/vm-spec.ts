// What the database remembers of a VM's making: everything a start needs, nothing that is secret.

import { z } from "zod";
import { SmolVMError } from "../errors/smolvm-error.js";
import { mountSchema } from "./mount-plan.js";
import { egressSchema } from "./network-config.js";

const format = z.enum(["raw", "qcow2"]);

const portForward = z.strictObject({ hostAddress: z.string(), hostPort: z.int(), guestPort: z.int() });

const origin = z.strictObject({
  kind: z.enum(["boot", "template", "snapshot", "fork", "checkpoint"]),
  /** Key of the template, id of the snapshot or checkpoint, id of the VM that was forked. */
  id: z.string().nullable(),
});

/** What a VM's present run began as. */
export type VmOrigin = z.output<typeof origin>;

export const vmSpecSchema = z
  // Fields that a newer version has added are skipped, not refused.
  .object({
    backend: z.string(),
    /** The VMM of its last start, as the backend names it: another one cannot go on from what this one froze. */
    vmm: z.string(),
    accelerator: z.enum(["kvm", "hvf", "tcg"]),
    vcpuCount: z.int(),
    memSizeMib: z.int(),
    /** Name and digest of the image; absent when kernel and root file system are the user's own. */
    image: z.strictObject({ name: z.string(), digest: z.string() }).nullable(),
    kernelPath: z.string(),
    initrdPath: z.string(),
    bootArgs: z.string(),
    disk: z.discriminatedUnion("mode", [
      z.strictObject({
        mode: z.literal("isolated"),
        path: z.string(),
        layers: z.array(z.string()).readonly(),
        basePath: z.string(),
        baseFormat: format,
        sizeBytes: z.int(),
      }),
      z.strictObject({ mode: z.literal("shared"), path: z.string(), format }),
    ]),
    /** Whether the disk was never booted from: only then can it stand on a template's. */
    isPristine: z.boolean(),
    /** The file that its memory was mapped from; null after a boot. */
    memoryBasePath: z.string().nullable(),
    origin,
    /** Whether the disk is larger than the file system in it. */
    growRoot: z.boolean(),
    /** No other VM of the state directory has it; the guest's address is made from it. */
    guestNumber: z.int(),
    networkMode: z.enum(["none", "user", "tap"]),
    /** What its guest may reach, in the words of whoever said it. */
    egress: egressSchema.default("open"),
    /** Of each direction, in megabits per second. */
    rateLimitMbps: z.int().nullable().default(null),
    /** Where its SSH server is reached; absent without the SSH channel. Its other ports are rows of their own. */
    ssh: portForward.optional(),
    /** In the order in which they are made. Records of older versions have none. */
    mounts: z.array(mountSchema).readonly().default([]),
    machineId: z.string(),
    bootTimeoutMs: z.int(),
    retainDiskOnDelete: z.boolean(),
    /** Directory of the VM's own files. */
    directory: z.string(),
  })
  .readonly();

/** See the schema. Paths are absolute, sizes in the unit of their name. */
export type VmSpec = z.output<typeof vmSpecSchema>;

/** Writes what the schema names and nothing else. */
export function encodeSpec(spec: VmSpec): string {
  return JSON.stringify(vmSpecSchema.parse(spec));
}

/** @throws {STORAGE_FAILED} when the row was not written by this version. */
export function decodeSpec(vmId: string, text: string): VmSpec {
  const parsed = vmSpecSchema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new SmolVMError("STORAGE_FAILED", `Cannot read the record of VM "${vmId}": ${parsed.error.message}`, {
    details: { vmId },
  });
}

/**
 * Whether the record tells what the guest may reach. Every start puts it there; one that does not was written by a SmolVM
 * whose network programs take no orders, and they run as long as the VM does.
 */
export function hasPolicy(text: string): boolean {
  const record = parseJson(text);
  return typeof record === "object" && record !== null && "egress" in record;
}

/** @returns `undefined` for what is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
