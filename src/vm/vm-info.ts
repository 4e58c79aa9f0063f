// What is told of a VM.

import type { EgressPolicy } from "../network/egress-policy.js";
import type { VmFailure, VmRow, VmStatus, VmTransition } from "../storage/vm-store.js";
import type { VmContext } from "./context.js";
import { recordedProcess } from "./live-process.js";
import { userPorts } from "./ports/user-ports.js";
import { VMM_ROLE } from "./resources.js";
import { decodeSpec, type VmOrigin } from "./vm-spec.js";

export type { VmFailure, VmStatus, VmTransition } from "../storage/vm-store.js";

/** A VM as it is now. */
export interface VMInfo {
  readonly vmId: string;
  readonly status: VmStatus;
  /** What some process is doing to it right now. */
  readonly transition: VmTransition | null;
  /** Why the status is `error`. */
  readonly failure: VmFailure | null;
  /** What did not work at its last start and did not prevent it, e.g. that the host has no DNS resolver. */
  readonly warnings: readonly string[];
  /** What its present or last run began as, and from what: key of a template, id of a snapshot, checkpoint or VM. */
  readonly startedFrom: VmOrigin;
  readonly backend: string;
  readonly accelerator: string;
  readonly image: { readonly name: string; readonly digest: string } | null;
  readonly vcpuCount: number;
  readonly memSizeMib: number;
  readonly diskMode: "isolated" | "shared";
  /** Null for a shared disk: it is as large as its file. */
  readonly diskSizeMib: number | null;
  readonly diskPath: string;
  readonly network: "none" | "user" | "tap";
  /** What its guest may reach; see `VMConfig`. */
  readonly egress: EgressPolicy;
  /** Of each direction, in megabits per second; null for none. */
  readonly rateLimitMbps: number | null;
  /** Those that were asked for when it was made, and those exposed since. */
  readonly ports: readonly { readonly guest: number; readonly host: number; readonly hostAddress: string }[];
  readonly mounts: readonly { readonly hostPath: string; readonly guestPath: string; readonly writable: boolean }[];
  /** Where its SSH server is reached; null without the SSH channel. */
  readonly ssh: { readonly host: string; readonly port: number } | null;
  /** Process id of the VMM; null when it does not run. */
  readonly pid: number | null;
  /** ISO 8601. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

const MIB_BYTES = 1024 * 1024;

export function vmInfo(ctx: VmContext, row: VmRow): VMInfo {
  const spec = decodeSpec(row.id, row.spec);
  return {
    vmId: row.id,
    status: row.status,
    transition: row.move?.transition ?? null,
    failure: row.failure ?? null,
    warnings: row.warnings,
    startedFrom: spec.origin,
    backend: spec.backend,
    accelerator: spec.accelerator,
    image: spec.image,
    vcpuCount: spec.vcpuCount,
    memSizeMib: spec.memSizeMib,
    diskMode: spec.disk.mode,
    diskSizeMib: spec.disk.mode === "isolated" ? spec.disk.sizeBytes / MIB_BYTES : null,
    diskPath: spec.disk.path,
    network: spec.networkMode,
    egress: spec.egress,
    rateLimitMbps: spec.rateLimitMbps,
    ports: userPorts(ctx, row.id).map(({ guestPort, hostPort, hostAddress }) => ({
      guest: guestPort,
      host: hostPort,
      hostAddress,
    })),
    mounts: spec.mounts,
    ssh: spec.ssh === undefined ? null : { host: spec.ssh.hostAddress, port: spec.ssh.hostPort },
    pid: recordedProcess(ctx, row.id, VMM_ROLE)?.pid ?? null,
    createdAt: new Date(row.createdAtMs).toISOString(),
    updatedAt: new Date(row.updatedAtMs).toISOString(),
  };
}
