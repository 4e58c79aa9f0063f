// The user network without a VM: the network room compiled alone, netguard built from its sources, and programs that
// start them inside a test's network namespace.

import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { RawGuest } from "../fixtures/raw-guest.js";
import { eventually, type Line, Talker } from "../fixtures/talker.js";

const ROOT = resolve(import.meta.dirname, "../..");
/** `nobody`, whom the unprivileged cases run as. */
const NOBODY_UID = 65_534;

/** Starts user networks. */
export class UserNetworks {
  /** Under /tmp and open to all: unprivileged programs run from here too. */
  readonly work: string;
  /** The last start's directory; empty when it has left nothing. */
  dir = "";
  readonly #onHost: readonly string[];
  readonly #starters: Talker[] = [];

  /** @param onHost Goes before an argv that is to run in the namespace. */
  constructor(onHost: readonly string[]) {
    this.#onHost = onHost;
    this.work = mkdtempSync("/tmp/smolnet-");
    chmodSync(this.work, 0o755);
    compileRoom(this.work);
    execFileSync("go", ["build", "-o", join(this.work, "netguard"), "./cmd/netguard"], {
      cwd: join(ROOT, "agent"),
      env: { ...process.env, CGO_ENABLED: "0" },
    });
    copyFileSync(join(ROOT, "test/fixtures/start-passt.mjs"), join(this.work, "start-passt.mjs"));
    writeFileSync(join(this.work, "resolv.conf"), "nameserver 127.0.0.53\nsearch example.test\n");
  }

  /**
   * Starts a network with the room's own code.
   *
   * @param extra Options of test/fixtures/start-passt.mjs.
   * @returns The program, which reports lines with `started` and `ok`.
   */
  launch(extra: Line = {}, wrap: readonly string[] = []): Talker {
    this.dir = mkdtempSync(join(this.work, "vm-"));
    if (wrap.includes("setpriv")) chownSync(this.dir, NOBODY_UID, NOBODY_UID);
    const options = {
      room: join(this.work, "room"),
      dir: this.dir,
      guardPath: join(this.work, "netguard"),
      request: { mode: "user", ports: [] },
      resolvConf: join(this.work, "resolv.conf"),
      ...extra,
    };
    const argv = ["node", join(this.work, "start-passt.mjs"), JSON.stringify(options)];
    const starter = new Talker([...this.#onHost, ...wrap, ...argv]);
    this.#starters.push(starter);
    return starter;
  }

  /** {@link launch}, and waits until the network is ready or has failed. */
  async start(extra: Line = {}, wrap: readonly string[] = []): Promise<{ starter: Talker; result: Line }> {
    const starter = this.launch(extra, wrap);
    return { starter, result: await starter.line((line) => "ok" in line) };
  }

  /** Stops what still runs. */
  async stopAll(): Promise<void> {
    for (const starter of this.#starters.splice(0)) {
      if (starter.child.exitCode !== null || starter.child.signalCode !== null) continue;
      starter.child.stdin?.write("stop\n");
      await starter.line((line) => line["stopped"] === true);
      await starter.end();
    }
  }

  /** Waits until all that runs in the namespace are `count` processes. */
  async expectProcesses(count: number): Promise<void> {
    await eventually(() => this.processes().length === count || undefined);
  }

  /** Pids of what runs in the namespace. */
  processes(): string[] {
    const name = this.#onHost[3] ?? "";
    const text = execFileSync("ip", ["netns", "pids", name]).toString().trim();
    return text === "" ? [] : text.split("\n");
  }

  /** Removes every file. */
  remove(): void {
    rmSync(this.work, { recursive: true, force: true });
  }
}

/** A guest on the socket of a line that says `started` or `ok`. */
export function attach(line: Line): Promise<RawGuest> {
  const { guest } = line["plan"] as { guest: { macAddress: string; addresses: string[] } };
  const [address = ""] = guest.addresses[0]?.split("/") ?? [];
  return RawGuest.connect(String(line["socketPath"]), { mac: guest.macAddress, address });
}

/** Compiles the room alone, so that a namespace's `node` can run it whatever state the rest is in. */
function compileRoom(work: string): void {
  const project = join(work, "tsconfig.json");
  const compilerOptions = {
    rootDir: join(ROOT, "src"),
    outDir: join(work, "room"),
    typeRoots: [join(ROOT, "node_modules/@types")],
  };
  const files = ["passt", "network-plan", "host-network"].map((name) => join(ROOT, `src/network/${name}.ts`));
  writeFileSync(project, JSON.stringify({ extends: join(ROOT, "tsconfig.json"), compilerOptions, files, include: [] }));
  execFileSync("node", [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", project], { stdio: "inherit" });
  writeFileSync(join(work, "package.json"), '{"type":"module"}');
}

/** Why user networks cannot be tested here; announces it as a gate. `undefined` when they can. */
export function gateUserNetworks(): string | undefined {
  const reason = whyNot();
  if (reason !== undefined) console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: ${reason}`);
  return reason;
}

function whyNot(): string | undefined {
  if (process.platform !== "linux") return "network namespaces need Linux";
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const [file, flag] of [
    ["ip", "-V"],
    ["passt", "--version"],
    ["go", "version"],
    ["setpriv", "--version"],
  ] as const) {
    try {
      execFileSync(file, [flag], { stdio: "ignore" });
    } catch {
      return `"${file}" does not run`;
    }
  }
  const probe = `smolnet-t${process.pid}`;
  try {
    execFileSync("ip", ["netns", "add", probe], { stdio: "ignore" });
    execFileSync("ip", ["netns", "del", probe], { stdio: "ignore" });
    return undefined;
  } catch {
    return "this system allows no network namespaces";
  }
}
