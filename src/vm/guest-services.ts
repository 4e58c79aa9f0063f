// What a VM was promised of its guest beside commands: ports, directories of the host, an SSH server. All of it needs a
// guest that is configured.

import type { Phases } from "../base/phases.js";
import { settleAll } from "../base/settle-all.js";
import type { GuestConnection } from "../guest/connection.js";
import type { Boot } from "./boot-error.js";
import type { VmContext } from "./context.js";
import type { HeldPorts } from "./ports/held-ports.js";
import { startPorts } from "./ports/start-ports.js";
import { startSsh } from "./ssh/start-ssh.js";
import { startMounts } from "./start-mounts.js";

/** What the services are made with. */
export interface ServiceParts {
  readonly connection: GuestConnection;
  /** The VM's host ports. */
  readonly held: HeldPorts;
  readonly phases: Phases;
}

/**
 * Returns when everything can be used.
 *
 * @throws what {@link startPorts}, {@link startMounts} and {@link startSsh} throw.
 */
export async function startServices(ctx: VmContext, boot: Boot, parts: ServiceParts): Promise<void> {
  await settleAll([servePorts(ctx, boot, parts), serveFilesAndSsh(ctx, boot, parts)]);
}

async function servePorts(ctx: VmContext, boot: Boot, { held, phases }: ServiceParts): Promise<void> {
  if (ctx.store.ports.list(boot.vmId).length === 0) return;
  await startPorts(ctx, boot, held);
  phases.end("ports served");
}

async function serveFilesAndSsh(ctx: VmContext, boot: Boot, { connection, phases }: ServiceParts): Promise<void> {
  const { vmId, spec, deadline } = boot;
  if (spec.mounts.length > 0) {
    await startMounts(ctx, boot);
    phases.end("directories mounted");
  }
  if (spec.ssh !== undefined) {
    await startSsh(connection, { vmId, directory: spec.directory, forward: spec.ssh }, deadline);
    phases.end("SSH server listens");
  }
}
