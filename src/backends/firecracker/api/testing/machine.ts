// The machine inside the double: what was configured, and whether it runs. Each action takes a body that the
// description allows and gives a fault, an answer, or nothing.

import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import type { Server } from "node:net";
import { driveFault, machineFault, networkFault } from "./device-faults.js";
import { listenOn, openFault } from "./host-files.js";
import { BOOT_ARGS_LIMIT_BYTES } from "./rules.js";

export type Body = Readonly<Record<string, unknown>>;
/** What an action gives: a fault, a body to answer with, or nothing. */
export type Result = { readonly fault: string } | { readonly answer: unknown } | undefined;

/** What is in a snapshot of the double's. */
interface Saved {
  readonly config: Body;
  readonly drives: readonly Body[];
  readonly networks: readonly Body[];
  readonly vsock: Body | undefined;
}

const MIB = 1024 * 1024;

export class Machine {
  state: "Not started" | "Running" | "Paused" = "Not started";
  config: Body = { vcpu_count: 1, mem_size_mib: 128, smt: false, track_dirty_pages: false, huge_pages: "None" };
  bootSource: Body | undefined;
  balloon: Body | undefined;
  entropy: Body | undefined;
  readonly drives = new Map<string, Body>();
  readonly networks = new Map<string, Body>();
  vsock: Body | undefined;
  #vsockServer: Server | undefined;
  #hasMetrics = false;

  /** Lets go of what it holds on the host. */
  end(): void {
    this.#vsockServer?.close();
    this.#vsockServer = undefined;
  }

  /** By the name in rules.ts. */
  readonly actions: Readonly<Record<string, (body: Body) => Result | Promise<Result>>> = {
    "GET /": () => ({
      answer: { id: "double", state: this.state, vmm_version: "1.16.1", app_name: "Firecracker" },
    }),
    "GET /version": () => ({ answer: { firecracker_version: "1.16.1" } }),
    "GET /vm/config": () => ({ answer: this.#wholeConfig() }),
    "GET /machine-config": () => ({ answer: this.config }),
    "GET /balloon": () => (this.balloon === undefined ? { fault: "there is no balloon" } : { answer: this.balloon }),
    "PUT /machine-config": (body) =>
      refuseOr(machineFault(body, this.balloon), () => {
        this.config = { smt: false, track_dirty_pages: false, huge_pages: "None", ...body };
      }),
    "PUT /boot-source": (body) =>
      refuseOr(bootFault(body), () => {
        this.bootSource = body;
      }),
    "PUT /drives/{drive_id}": (body) =>
      refuseOr(driveFault(body, this.drives), () => this.drives.set(String(body["drive_id"]), body)),
    "PUT /network-interfaces/{iface_id}": (body) =>
      refuseOr(networkFault(body, this.networks), () => this.networks.set(String(body["iface_id"]), body)),
    "PUT /vsock": (body) => this.#listen(body),
    "PUT /entropy": (body) =>
      refuseOr(undefined, () => {
        this.entropy = body;
      }),
    "PUT /balloon": (body) =>
      refuseOr(this.#balloonFault(body), () => {
        this.balloon = body;
      }),
    "PUT /logger": (body) => refuseOr("log_path" in body ? openFault(body["log_path"], "a+") : undefined),
    "PUT /metrics": (body) =>
      refuseOr(this.#hasMetrics ? "metrics are there already" : openFault(body["metrics_path"], "a+"), () => {
        this.#hasMetrics = true;
      }),
    "PUT /serial": () => undefined, // The file is opened at the start.
    "PUT /actions InstanceStart": () =>
      refuseOr(this.bootSource === undefined ? "there is no kernel" : undefined, () => {
        this.state = "Running";
      }),
    "PUT /actions FlushMetrics": () => undefined,
    "PUT /actions SendCtrlAltDel": () => undefined,
    "PATCH /drives/{drive_id}": (body) => refuseOr(this.#updateFault(body)),
    "PATCH /balloon": (body) =>
      refuseOr(this.balloon === undefined ? "there is no balloon" : this.#balloonFault(body), () => {
        this.balloon = { ...this.balloon, ...body };
      }),
    "PATCH /vm": (body) =>
      refuseOr(undefined, () => {
        this.state = body["state"] === "Paused" ? "Paused" : "Running";
      }),
    "PUT /snapshot/create": (body) => this.#save(body),
    "PUT /snapshot/load": (body) => this.#load(body),
  };

  async #listen(body: Body): Promise<Result> {
    // The old one goes first, and its file with it.
    await new Promise<void>((done) =>
      this.#vsockServer === undefined ? done() : this.#vsockServer.close(() => done()),
    );
    this.#vsockServer = undefined;
    const server = await listenOn(String(body["uds_path"]));
    if (typeof server === "string") return { fault: server };
    this.#vsockServer = server;
    this.vsock = body;
    return undefined;
  }

  #balloonFault({ amount_mib: amount }: Body): string | undefined {
    return Number(amount) > Number(this.config["mem_size_mib"]) ? "the balloon is larger than the memory" : undefined;
  }

  #updateFault(body: Body): string | undefined {
    if (!this.drives.has(String(body["drive_id"]))) return `there is no drive ${body["drive_id"]}`;
    if (body["path_on_host"] === undefined) return body["rate_limiter"] === undefined ? "no change" : undefined;
    return openFault(body["path_on_host"], "r+");
  }

  #save(body: Body): Result {
    const [statePath, memoryPath] = [String(body["snapshot_path"]), String(body["mem_file_path"])];
    const fault = openFault(statePath, "a+") ?? openFault(memoryPath, "a+");
    if (fault !== undefined) return { fault };
    const { config, vsock } = this;
    const saved: Saved = { config, drives: [...this.drives.values()], networks: [...this.networks.values()], vsock };
    writeFileSync(statePath, JSON.stringify(saved));
    truncateSync(memoryPath, Number(config["mem_size_mib"]) * MIB);
    return undefined;
  }

  async #load(body: Body): Promise<Result> {
    const memory = body["mem_backend"] as Body | undefined;
    const fault = openFault(body["snapshot_path"], "r") ?? openFault(memory?.["backend_path"], "r");
    if (fault !== undefined) return { fault };
    const saved = parseSaved(String(body["snapshot_path"]));
    if (saved === undefined) return { fault: "the snapshot cannot be read" };
    for (const nic of saved.networks) this.networks.set(String(nic["iface_id"]), nic);
    for (const change of (body["network_overrides"] ?? []) as Body[]) {
      const known = this.networks.get(String(change["iface_id"]));
      if (known === undefined) return { fault: `there is no interface ${change["iface_id"]}` };
      this.networks.set(String(change["iface_id"]), { ...known, ...change });
    }
    const socket = body["vsock_override"] as Body | undefined;
    if (socket !== undefined && saved.vsock === undefined) return { fault: "there is no vsock" };
    const listening = saved.vsock === undefined ? undefined : await this.#listen({ ...saved.vsock, ...socket });
    if (listening !== undefined) return listening;
    this.config = saved.config;
    for (const drive of saved.drives) this.drives.set(String(drive["drive_id"]), drive);
    this.state = body["resume_vm"] === true ? "Running" : "Paused";
    return undefined;
  }

  #wholeConfig(): unknown {
    return {
      "machine-config": this.config,
      "boot-source": { kernel_image_path: "", initrd_path: null, boot_args: null, ...this.bootSource },
      drives: [...this.drives.values()],
      "network-interfaces": [...this.networks.values()],
      vsock: this.vsock ?? null,
      entropy: this.entropy ?? null,
      balloon: this.balloon ?? null,
    };
  }
}

function refuseOr(fault: string | undefined, act: () => unknown = () => {}): Result {
  if (fault !== undefined) return { fault };
  act();
  return undefined;
}

function bootFault(body: Body): string | undefined {
  if (Buffer.byteLength(String(body["boot_args"] ?? "")) > BOOT_ARGS_LIMIT_BYTES) return "the command line is too long";
  const fault = openFault(body["kernel_image_path"], "r");
  return fault ?? ("initrd_path" in body ? openFault(body["initrd_path"], "r") : undefined);
}

function parseSaved(path: string): Saved | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Saved;
  } catch {
    return undefined;
  }
}
