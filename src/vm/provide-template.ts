// The template of a VM's configuration: found in the cache, or made by booting once and freezing what has booted.
// A template holds nothing of any user: no identity, no environment, no network address, no host key.

import { readdir, rm } from "node:fs/promises";
import { join, sep } from "node:path";
import { backendFor } from "../backends/registry.js";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { sleep } from "../base/sleep.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import type { GuestConnection } from "../guest/connection.js";
import type { GuestCommand } from "../guest/exec-request.js";
import { settleGuest } from "../guest/hold.js";
import { runCommand } from "../guest/run-command.js";
import { fileIdentity } from "../images/file-identity.js";
import type { Template, TemplateDamage } from "../images/template-store.js";
import { attemptBoot, BOOT_ATTEMPTS, type BootableVm, type BootOptions, verifyBootFiles } from "./boot-attempts.js";
import { appendToConsole } from "./console-log.js";
import type { VmContext } from "./context.js";
import { guestMtu } from "./guest-mtu.js";
import { programVersion } from "./helper-programs.js";
import { isBootedFrom } from "./is-booted-from.js";
import { launchVm, machineOf } from "./launch-vm.js";
import { releaseRuntime } from "./release-runtime.js";
import type { VmSpec } from "./vm-spec.js";

/** Rises when templates are made in another way, so that older ones are not used. */
const TEMPLATE_VERSION = 1;
/** Longest wait for checksums, or for another process that makes it, beside the boot itself, in milliseconds. */
const MAKE_LIMIT_MS = 120_000;
/** Run before freezing, so that what most commands need is in the guest's memory. */
const WARM_UP: readonly GuestCommand[] = [
  { argv: ["true"] },
  { shellLine: "true" },
  { shellLine: "id; ls /; uname -a; cat /etc/os-release" },
  { shellLine: "command -v python3 && python3 -c 'import json, os, subprocess, sys'" },
  { argv: ["true"] },
];
/** Longest warm-up, in milliseconds. Commands that fail or are not there do not matter. */
const WARM_UP_LIMIT_MS = 20_000;
const WARM_UP_OUTPUT_BYTES = 64 * 1024;
/** After the last client has left, what the agent and the kernel still have to do ends within this, in milliseconds. */
const COME_TO_REST_MS = 300;

/**
 * Finds or makes the template of a VM whose disk is isolated and untouched.
 *
 * @throws {BOOT_TIMEOUT} {BOOT_FAILED} when the guest does not boot.
 * @throws {BUSY} when another process took too long to make it. @throws {IMAGE_FAILED} {STORAGE_FAILED} {ABORTED}
 */
export async function provideTemplate(ctx: VmContext, vm: BootableVm, options: BootOptions): Promise<Template> {
  const rest = shareLimit(options);
  const key = await templateKey(ctx, vm);
  const isInUse = (path: string) => isBootedFrom(ctx, path);
  const onDamaged = ({ key: damaged, reason }: TemplateDamage) =>
    void appendToConsole(vm.spec.directory, `smolvm: template ${damaged.slice(0, 12)} is damaged: ${reason}\n`);
  const found = await ctx.images.templates.find(key, { ...rest(), isInUse, onDamaged });
  if (found !== undefined) return found;
  const { spec } = vm;
  const facts = {
    image: spec.image?.name ?? "",
    imageDigest: spec.image?.digest ?? "",
    backend: spec.backend,
    accelerator: spec.accelerator,
    vcpuCount: String(spec.vcpuCount),
    memSizeMib: String(spec.memSizeMib),
    network: spec.networkMode,
  };
  const bound = Deadline.from(rest(), spec.bootTimeoutMs * BOOT_ATTEMPTS + MAKE_LIMIT_MS);
  const produce = async (directory: string) => {
    options.onProgress?.({ step: "Booting once to make a template" });
    await recordTemplate(ctx, vm, directory, rest());
    options.onProgress?.({ step: "Recording the template's checksums" });
  };
  const limits = { timeoutMs: bound.remainingMs, signal: bound.signal };
  return ctx.images.templates.make(key, facts, produce, { ...limits, isInUse, onDamaged });
}

/** All that shapes the frozen machine: anything else in it makes another template. */
async function templateKey(ctx: VmContext, { vmId, spec }: BootableVm): Promise<string> {
  const backend = backendFor(spec.backend);
  const shape = backend.shapeOf(machineOf({ vmId, spec, memory: { from: "boot" } }, "/", undefined));
  const files = [spec.kernelPath, spec.initrdPath, spec.disk.mode === "isolated" ? spec.disk.basePath : ""];
  const identities = await Promise.all(files.map((path) => identityOf(ctx, path)));
  const version = `${TEMPLATE_VERSION} ${programVersion()}`;
  return JSON.stringify([
    version,
    spec.backend,
    spec.vmm,
    shape,
    spec.growRoot,
    guestMtu(spec),
    ...identities,
    WARM_UP,
  ]);
}

/** Paths inside the cache name their content; a user's own file may change under its name. */
async function identityOf(ctx: VmContext, path: string): Promise<string> {
  return path.startsWith(ctx.paths.cacheDir + sep)
    ? path
    : `${path} ${await fileIdentity(path).catch(() => "missing")}`;
}

async function recordTemplate(ctx: VmContext, vm: BootableVm, directory: string, options: WaitOptions): Promise<void> {
  const rest = shareLimit(options);
  const { vmId } = vm;
  await verifyBootFiles(ctx, vm.spec, rest());
  try {
    await attemptBoot(ctx, vm, rest(), async (deadline) => {
      const spec = await emptyDisk(vm.spec, directory);
      const memory = { from: "recording" as const, path: join(directory, "memory") };
      const launch = { vmId, spec, memory, role: "template" as const, deadline };
      const { runtimeDir, connection } = await launchVm(ctx, launch).catch((error) =>
        throwAsShortage(error, memory.path),
      );
      await warmUp(connection, deadline.atMost(WARM_UP_LIMIT_MS));
      ctx.channels.drop(vmId);
      await sleep(COME_TO_REST_MS, deadline.signal);
      await backendFor(spec.backend).freeze(runtimeDir, join(directory, "devices"), deadline);
    });
  } finally {
    await releaseRuntime(ctx, vmId);
  }
}

/** A page of the memory's file that finds no room on the disk is a SIGBUS for the VMM: no fault of the guest's. */
function throwAsShortage(error: unknown, path: string): never {
  if (!isSmolVMError(error, "BOOT_FAILED") || error.details["signal"] !== "SIGBUS") throw error;
  const text = `Making a template failed at "${path}": there was no room for the guest's memory`;
  throw new SmolVMError("STORAGE_FAILED", text, { details: { path }, cause: error });
}

/** The VM's configuration with a new layer of its own in `directory`; an earlier attempt's files there go. */
async function emptyDisk(spec: VmSpec, directory: string): Promise<VmSpec> {
  if (spec.disk.mode === "shared") throw new SmolVMError("INTERNAL", "A shared disk has no template");
  for (const name of await readdir(directory)) await rm(join(directory, name), { force: true });
  const disk = { ...spec.disk, path: join(directory, "disk.qcow2"), layers: [] };
  await backendFor(spec.backend).prepareDisk(disk);
  return { ...spec, disk };
}

async function warmUp(connection: GuestConnection, deadline: Deadline): Promise<void> {
  for (const command of WARM_UP) {
    await runCommand(connection, { command, maxOutputBytes: WARM_UP_OUTPUT_BYTES }, deadline).catch(() => {});
  }
  await settleGuest(connection, deadline);
}
