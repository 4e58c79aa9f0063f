// Guests of the test bed: a program that uses SmolVM inside the host namespace, and the VMs that it has made, with
// test/fixtures/internet in them.

import { join } from "node:path";
import type { Internet } from "./internet.js";
import type { Packet, Service, Zone } from "./internet-tool.js";
import { LineChild } from "./line-child.js";
import type { CommandOptions, CommandResult, VMConfig } from "./smolvm.js";
import { ToolUser } from "./tool-user.js";
import { eventually } from "./wait.js";

const SCRIPT = join(import.meta.dirname, "../fixtures/internet-program.mjs");
const DIST = join(import.meta.dirname, "../../dist");
/** Where the tool is in a guest. */
const TOOL = "/root/internet";
const WATCH_OUTPUT = "/root/watch.json";

/** A program inside the host namespace. */
export class HostProgram implements AsyncDisposable {
  readonly #child: LineChild;
  readonly #internet: Internet;

  private constructor(child: LineChild, internet: Internet) {
    this.#child = child;
    this.#internet = internet;
  }

  /** @param wrap Goes before it, inside the namespace. */
  static async start(
    internet: Internet,
    env: Readonly<Record<string, string>> = {},
    wrap: readonly string[] = [],
  ): Promise<HostProgram> {
    const argv = [...internet.onHost, ...wrap, process.execPath, SCRIPT, DIST];
    return new HostProgram(await LineChild.start(argv, { ...process.env, ...env }), internet);
  }

  /** A call of test/fixtures/internet-program.mjs, such as `"network.update"`. Rejects with `CallError`. */
  call<T>(name: string, ...args: readonly unknown[]): Promise<T> {
    return this.#child.ask<T>({ call: name, args });
  }

  /** Creates and starts a VM; the tool comes into it with `arm`. */
  async create(config: VMConfig): Promise<Guest> {
    return new Guest(await this.call<string>("create", config), this, this.#internet);
  }

  /** A VM that is there already. */
  guest(vmId: string): Guest {
    return new Guest(vmId, this, this.#internet);
  }

  /** SIGKILL, as a crash would. */
  kill(): Promise<void> {
    return this.#child.end(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.end();
  }
}

/** One VM, and its hostile root. */
export class Guest extends ToolUser {
  readonly vmId: string;
  readonly #program: HostProgram;
  readonly #internet: Internet;

  constructor(vmId: string, program: HostProgram, internet: Internet) {
    super();
    this.vmId = vmId;
    this.#program = program;
    this.#internet = internet;
  }

  call<T>(name: string, ...args: readonly unknown[]): Promise<T> {
    return this.#program.call<T>(name, this.vmId, ...args);
  }

  /** Copies the tool into it, and the test authority's certificate. */
  async arm(): Promise<this> {
    await this.call("upload", this.#internet.tool.path, TOOL);
    await this.call("upload", this.#internet.caPath, "/root/ca.pem");
    await this.call("fs.chmod", TOOL, 0o755);
    return this;
  }

  exec(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return this.call("exec", argv, options);
  }

  /** A line of shell that must work. @returns Its stdout, trimmed. */
  async sh(line: string): Promise<string> {
    return (await this.call<CommandResult>("run", line, { check: true })).output;
  }

  /** Moves bytes for a while. */
  perf(options: {
    address: string;
    port: number;
    direction: "upload" | "download";
    ms: number;
    streams?: number;
  }): Promise<{ bytes: number; seconds: number; mbps: number }> {
    return this.tool("perf", options);
  }

  /** Serves in the guest until it ends. */
  async serve(services: readonly Service[], zone: Zone = {}): Promise<void> {
    const options = JSON.stringify({ services, zone });
    // Its stdin stays open: the end of it would end the servers.
    await this.call("detach", `sleep 100000 | ${TOOL} serve '${options}' > /root/serve.out`);
    await this.#waitForReady("/root/serve.out");
  }

  /** Sees what comes in from now on. @returns To end it, and get what came. */
  async watch(device: string): Promise<() => Promise<Packet[]>> {
    await this.sh(`rm -f ${WATCH_OUTPUT}`);
    await this.call("detach", `exec ${TOOL} watch '${JSON.stringify({ device })}' > ${WATCH_OUTPUT}`);
    await this.#waitForReady(WATCH_OUTPUT);
    return async () => {
      await this.sh(`pkill -TERM -f '^${TOOL} watch'`);
      const text = await eventually(async () => {
        const lines = (await this.call<CommandResult>("exec", ["cat", WATCH_OUTPUT])).stdout.split("\n");
        return lines.length > 2 ? lines[1] : undefined;
      });
      return JSON.parse(text) as Packet[];
    };
  }

  delete(): Promise<void> {
    return this.call("delete");
  }

  async #waitForReady(path: string): Promise<void> {
    await eventually(async () => ((await this.sh(`cat ${path} || true`)).includes("ready") ? true : undefined));
  }

  protected async tool<T>(command: string, argument: unknown): Promise<T> {
    const options = { stdin: JSON.stringify(argument), check: true };
    const result = await this.exec([TOOL, command, "-"], options);
    return JSON.parse(result.stdout) as T;
  }
}
