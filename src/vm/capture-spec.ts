// What the database remembers of a capture: the machine as it was, where its files are, and what can go on from them.

import { join } from "node:path";
import { z } from "zod";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CaptureRow } from "../storage/capture-store.js";
import { parseJson, vmSpecSchema } from "./vm-spec.js";

/** Directory of all captures, below the state directory. */
export const CAPTURES_DIRECTORY = "captures";
/** Names of the files in a capture's directory. */
export const CAPTURE_FILES = { memory: "memory", devices: "devices", layer: "disk.qcow2" } as const;

const schema = z
  .object({
    /** The VM at that moment. The layers of its disk begin with the captured one. */
    vm: vmSpecSchema,
    /** Digest of the machine's shape, as the backend tells it. */
    shape: z.string(),
    /** Size and time of the base that its disk stands on, which may be a user's own file. */
    baseIdentity: z.string(),
    directory: z.string(),
    /** What its files occupied on disk when it was made. */
    allocatedBytes: z.int(),
  })
  .readonly();

/** See the schema. */
export type CaptureSpec = z.output<typeof schema>;

export function encodeCapture(spec: CaptureSpec): string {
  return JSON.stringify(schema.parse(spec));
}

/** @throws {STORAGE_FAILED} when the row was not written by this version. */
export function decodeCapture({ id, spec }: Pick<CaptureRow, "id" | "spec">): CaptureSpec {
  const parsed = schema.safeParse(parseJson(spec));
  if (parsed.success) return parsed.data;
  throw new SmolVMError("STORAGE_FAILED", `Cannot read the record of capture "${id}": ${parsed.error.message}`, {
    details: { id },
  });
}

/** Absolute paths of a capture's files. */
export function captureFiles(directory: string) {
  return {
    memoryPath: join(directory, CAPTURE_FILES.memory),
    devicesPath: join(directory, CAPTURE_FILES.devices),
    layerPath: join(directory, CAPTURE_FILES.layer),
  };
}
