// Brings a VM up: from its configuration's template where its disk is still untouched, else by a cold boot. A template
// that cannot be made or does not start is no reason to fail: the VM boots cold then, and its log says why.
// The caller holds the VM's claim, and releases what a failed start leaves on record.

import { rename, rm } from "node:fs/promises";
import { sep } from "node:path";
import type { MachineDisk } from "../backends/backend.js";
import { backendFor } from "../backends/registry.js";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { Phases } from "../base/phases.js";
import { fileError } from "../errors/file-error.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { Template } from "../images/template-store.js";
import {
  attemptBoot,
  type BootableVm,
  type BootOptions,
  inTurn,
  isGuestsFault,
  verifyBootFiles,
  verifyDisk,
} from "./boot-attempts.js";
import { appendToConsole } from "./console-log.js";
import type { VmContext } from "./context.js";
import { type LaunchedVm, launchVm } from "./launch-vm.js";
import { requireMounts } from "./mount-plan.js";
import { provideTemplate } from "./provide-template.js";
import { releaseRuntime } from "./release-runtime.js";
import { encodeSpec, type VmSpec } from "./vm-spec.js";

/** Longest wait for the VMM to say who it is, in milliseconds. */
export const IDENTIFY_TIMEOUT_MS = 20_000;
/** Longest start from a template, in milliseconds: it takes a fraction of a second, and a cold boot still has to follow. */
const TEMPLATE_START_LIMIT_MS = 20_000;

/**
 * Brings a VM up and waits until it takes commands.
 *
 * @throws {BOOT_TIMEOUT} {BOOT_FAILED} with `details.serialTail` and `details.vmmStderr`.
 * @throws {IMAGE_FAILED} when a file it boots from is gone or was altered.
 * @throws {ABORTED} {HOST_UNSUPPORTED} {NETWORK_FAILED} {PORT_IN_USE} {STORAGE_FAILED}
 */
export async function bootVm(ctx: VmContext, asked: BootableVm, options: BootOptions): Promise<void> {
  const rest = shareLimit(options);
  const phases = new Phases("create", asked.vmId);
  const { vmId } = asked;
  const vmm = await backendFor(asked.spec.backend).identify(Deadline.from(rest(), IDENTIFY_TIMEOUT_MS));
  const vm = { ...asked, spec: { ...asked.spec, vmm } };
  await requireMounts(vmId, vm.spec.mounts);
  await releaseRuntime(ctx, vmId); // What an earlier start left must not be hidden by new rows.
  const coldly = (warnings: readonly string[]) =>
    inTurn(ctx, vmId, rest(), (bounds) => bootCold(ctx, vm, warnings, bounds));
  if (!vm.spec.isPristine || vm.spec.disk.mode === "shared") return coldly([]);
  // Not in turn: it may be a long wait for another program that makes it.
  const { template, problem } = await templateOf(ctx, vm, { ...options, ...rest() });
  phases.end("template");
  const reason =
    template === undefined
      ? problem
      : await inTurn(ctx, vmId, rest(), (bounds) => tryTemplate(ctx, vm, template, bounds));
  if (reason === undefined) return;
  const warning = `Booted cold instead of starting from a template: ${reason}`;
  await appendToConsole(vm.spec.directory, `smolvm: ${warning}\n`);
  await coldly([warning]);
}

/** The template, or why there is none. */
async function templateOf(
  ctx: VmContext,
  vm: BootableVm,
  options: BootOptions,
): Promise<{ readonly template?: Template; readonly problem: string }> {
  try {
    return { template: await provideTemplate(ctx, vm, options), problem: "" };
  } catch (error) {
    if (!isTemplatesFault(error)) throw error;
    return { problem: `no template could be made: ${error.message}` };
  }
}

/** @returns `undefined` when the VM runs, else why it does not: nothing of it is left. */
async function tryTemplate(
  ctx: VmContext,
  vm: BootableVm,
  template: Template,
  options: WaitOptions,
): Promise<string | undefined> {
  const { vmId, spec, held } = vm;
  const phases = new Phases("create", vmId);
  const disk = { ...spec.disk, layers: [template.diskPath] } as MachineDisk;
  const origin = { kind: "template" as const, id: template.key };
  const started = { ...spec, disk, origin, isPristine: false, memoryBasePath: template.memoryPath };
  const bound = Deadline.from(options, spec.bootTimeoutMs).atMost(TEMPLATE_START_LIMIT_MS);
  await verifyDisk(ctx, spec, options); // The image's part of it; the template's own was verified when it was found.
  try {
    await putDisk(ctx, { vmId, spec: started });
    phases.end("disk");
    const memory = { from: "image" as const, path: template.memoryPath, devicesPath: template.devicesPath };
    const launch = { vmId, spec: started, held, memory, role: "vm" as const, deadline: bound };
    finish(ctx, vmId, await launchVm(ctx, launch), []);
    return undefined;
  } catch (error) {
    if (!isGuestsFault(error) && !isAbout(error, template.directory)) throw error;
    await releaseRuntime(ctx, vmId);
    return `template ${template.key.slice(0, 12)} did not start: ${error.message}`;
  }
}

async function bootCold(
  ctx: VmContext,
  { vmId, spec, held }: BootableVm,
  warnings: readonly string[],
  options: WaitOptions,
): Promise<void> {
  const rest = shareLimit(options);
  const booting: VmSpec = {
    ...spec,
    isPristine: false,
    memoryBasePath: null,
    origin: { kind: "boot", id: null },
  };
  await verifyBootFiles(ctx, booting, rest());
  if (spec.isPristine) await putDisk(ctx, { vmId, spec: booting });
  else ctx.store.vms.setSpec(vmId, encodeSpec(booting));
  const launched = await attemptBoot(ctx, { vmId, spec: booting }, rest(), (deadline) =>
    launchVm(ctx, { vmId, spec: booting, held, memory: { from: "boot" }, role: "vm", deadline }),
  );
  finish(ctx, vmId, launched, warnings);
}

/**
 * Makes the private layer of a disk that was never booted from. Until it is there the record says so: a start that was
 * interrupted in between is made again from the beginning.
 */
async function putDisk(ctx: VmContext, { vmId, spec }: BootableVm): Promise<void> {
  // First: what the disk stands on must be known to be in use.
  ctx.store.vms.setSpec(vmId, encodeSpec({ ...spec, isPristine: true }));
  await makeLayer(vmId, spec);
  ctx.store.vms.setSpec(vmId, encodeSpec(spec));
}

/** Makes the private layer of a disk in one step; one that lies there is replaced. */
export async function makeLayer(vmId: string, { disk, backend, directory }: VmSpec): Promise<void> {
  if (disk.mode === "shared") return;
  const made = `${disk.path}.new`;
  try {
    await rm(made, { force: true });
    await backendFor(backend).prepareDisk({ ...disk, path: made });
    await rename(made, disk.path);
  } catch (error) {
    throw error instanceof SmolVMError ? error : fileError(`Create the disk of VM "${vmId}"`, directory, error);
  }
}

function finish(ctx: VmContext, vmId: string, launched: LaunchedVm, warnings: readonly string[]): void {
  ctx.store.vms.setWarnings(vmId, [...warnings, ...launched.warnings]);
}

/** Whether an error names a file in a directory, such as that of a template that was pruned in this moment. */
function isAbout(error: unknown, directory: string): error is SmolVMError {
  const path = error instanceof SmolVMError ? error.details["path"] : undefined;
  return typeof path === "string" && path.startsWith(directory + sep);
}

/** Whatever is wrong with the making of a template and not with the host, the caller's patience or the guest. */
function isTemplatesFault(error: unknown): error is SmolVMError {
  if (!(error instanceof SmolVMError) || NOT_TEMPLATES_FAULT.has(error.code)) return false;
  // A guest that ends itself makes its VMM end with 0. Else it was the VMM that could not do it, perhaps only this way.
  return error.code !== "BOOT_FAILED" || error.details["exitCode"] !== 0;
}

// A guest that stays silent for the template does so for the VM, too.
const NOT_TEMPLATES_FAULT: ReadonlySet<string> = new Set(["ABORTED", "HOST_UNSUPPORTED", "BOOT_TIMEOUT"]);
