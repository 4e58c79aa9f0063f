// What the database remembers of a VM's making: everything a start needs, nothing that is secret.

import { z } from "zod";
import { SmolVMError } from "../errors/smolvm-error.js";

const format = z.enum(["raw", "qcow2"]);

const schema = z
  // Fields that a newer version has added are skipped, not refused.
  .object({
    backend: z.string(),
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
        basePath: z.string(),
        baseFormat: format,
        sizeBytes: z.int(),
      }),
      z.strictObject({ mode: z.literal("shared"), path: z.string(), format }),
    ]),
    /** Whether the disk is larger than the file system in it. */
    growRoot: z.boolean(),
    networkMode: z.enum(["none", "user"]),
    ports: z.array(z.strictObject({ hostAddress: z.string(), hostPort: z.int(), guestPort: z.int() })),
    machineId: z.string(),
    bootTimeoutMs: z.int(),
    retainDiskOnDelete: z.boolean(),
    /** Directory of the VM's own files. */
    directory: z.string(),
  })
  .readonly();

/** See the schema. Paths are absolute, sizes in the unit of their name. */
export type VmSpec = z.output<typeof schema>;

/** Writes what the schema names and nothing else. */
export function encodeSpec(spec: VmSpec): string {
  return JSON.stringify(schema.parse(spec));
}

/** @throws {STORAGE_FAILED} when the row was not written by this version. */
export function decodeSpec(vmId: string, text: string): VmSpec {
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new SmolVMError("STORAGE_FAILED", `Cannot read the record of VM "${vmId}": ${parsed.error.message}`, {
    details: { vmId },
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
