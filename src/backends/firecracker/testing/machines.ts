// Machines for tests, with files of their own, and the program that stands for Firecracker.

import { chmodSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { Deadline } from "../../../base/deadline.js";
import type { FoundFirecracker } from "../../../host/firecracker/find-firecracker.js";
import type { MachineSpec } from "../../backend.js";
import { haltingKernel } from "../api/testing/halting-kernel.js";
import { FirecrackerBackend } from "../firecracker-backend.js";

const FAKE = join(import.meta.dirname, "fake-firecracker.mjs");

export const soon = () => Deadline.after(10_000);

/** What the fake noted down: how it was started, then its requests. */
export interface Heard {
  readonly argv?: readonly string[];
  readonly cwd?: string;
  readonly env?: string;
  readonly pid?: number;
  readonly request?: string;
  readonly body?: Readonly<Record<string, unknown>>;
}

/** What the fake is to do otherwise. */
export interface Otherwise {
  readonly refuse?: Readonly<Record<string, string>>;
  /** A request, or `start`, at which it ends with 7. */
  readonly endAt?: string;
  /** A request that it never answers. */
  readonly stallAt?: string;
  /** Whether nobody answers behind its vsock. */
  readonly isSilent?: boolean;
  readonly version?: string;
}

/** A directory of the test's own; it ends with the test. */
export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-fc-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A machine whose files exist. */
export function machineIn(directory: string, changes: Partial<MachineSpec> = {}): MachineSpec {
  const runtimeDir = join(directory, "run");
  mkdirSync(runtimeDir, { recursive: true });
  const file = (name: string, content: string | Buffer) => {
    const path = join(directory, name);
    if (!existsSync(path)) writeFileSync(path, content, { mode: 0o644 });
    return path;
  };
  return {
    vmId: "a1",
    accelerator: "kvm",
    vcpuCount: 2,
    memSizeMib: 128,
    kernelPath: file("vmlinux", haltingKernel()),
    initrdPath: file("initrd.cpio", "initrd"),
    bootArgs: "",
    disk: {
      mode: "isolated",
      path: file("disk.raw", "disk"),
      layers: [],
      basePath: file("base.raw", "base"),
      baseFormat: "raw",
      sizeBytes: 2 ** 20,
    },
    memory: { from: "boot" },
    network: undefined,
    runtimeDir,
    ...changes,
  };
}

/** Two files that what is written goes to. */
export function outputsIn(directory: string) {
  const paths = [join(directory, "console.log"), join(directory, "messages.log")] as const;
  const [console, messages] = [openSync(paths[0], "a"), openSync(paths[1], "a")];
  return { console, messages, consoleText: () => readFileSync(paths[0], "latin1") };
}

/** A backend over the fake, which has no jailer. */
export function fakeBackend(directory: string) {
  const path = join(directory, "firecracker.mjs");
  writeFileSync(path, `#!${process.execPath}\n${readFileSync(FAKE, "utf8")}`);
  chmodSync(path, 0o755);
  const found: FoundFirecracker = {
    firecracker: { path, version: { numbers: [1, 16, 1], text: "1.16.1" }, fingerprint: "firecracker 1.16.1, a fake" },
    jailer: undefined,
    jailerProblem: "jailer is not there",
    origin: "path",
  };
  const backend = new FirecrackerBackend({ find: async () => found, jailsDir: join(directory, "jails") });
  return {
    backend,
    heard: (): Heard[] =>
      readFileSync(`${path}.log`, "utf8")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Heard),
    otherwise: (what: Otherwise) => writeFileSync(`${path}.json`, JSON.stringify(what)),
  };
}
