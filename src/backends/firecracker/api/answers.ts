// What Firecracker answers, checked in shape: only what a backend reads; anything else in an answer is dropped.

import { z } from "zod";

/** Answer to `GET /`. */
export const instanceInfo = z.object({
  id: z.string(),
  state: z.enum(["Not started", "Running", "Paused"]),
  vmmVersion: z.string(),
  appName: z.string(),
});
export type InstanceInfo = z.infer<typeof instanceInfo>;

/** Answer to `GET /version`. */
export const versionInfo = z.object({ firecrackerVersion: z.string() });
export type VersionInfo = z.infer<typeof versionInfo>;

/** Answer to `GET /vm/config`. A machine from a snapshot has lost its boot source. */
export const vmConfig = z.object({
  machineConfig: z.object({
    vcpuCount: z.int(),
    memSizeMib: z.int(),
    smt: z.boolean().optional(),
    trackDirtyPages: z.boolean().optional(),
    hugePages: z.string().optional(),
  }),
  bootSource: z.object({
    kernelImagePath: z.string(),
    initrdPath: z.string().optional(),
    bootArgs: z.string().optional(),
  }),
  drives: z.array(
    z.object({
      driveId: z.string(),
      isRootDevice: z.boolean(),
      isReadOnly: z.boolean().optional(),
      pathOnHost: z.string().optional(),
      cacheType: z.string().optional(),
      ioEngine: z.string().optional(),
    }),
  ),
  networkInterfaces: z.array(
    z.object({ ifaceId: z.string(), hostDevName: z.string(), guestMac: z.string().optional() }),
  ),
  vsock: z.object({ guestCid: z.int(), udsPath: z.string() }).optional(),
  entropy: z.object({}).optional(),
  balloon: z.object({ amountMib: z.int(), deflateOnOom: z.boolean() }).optional(),
});
export type VmConfig = z.infer<typeof vmConfig>;
