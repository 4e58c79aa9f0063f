// Finds out what the host lacks and which commands would bring it. Changes nothing.

import { existsSync } from "node:fs";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import { APT_UPDATE_ARGV, aptInstallArgv } from "./apt.js";
import { type Architecture, hostArchitecture, qemuSystemProgram } from "./architecture.js";
import { isAtLeast } from "./checks/version.js";
import { findProgram } from "./find-program.js";
import { type Evidence, HOST_PACKAGES, type HostPackage, parseGoVersion } from "./packages.js";
import { runProgram } from "./process.js";

/** How the host installs packages, as far as SmolVM can use it. */
export type PackageManager = "apt" | "brew" | "none";

/** A package that is missing and what it is for. */
export interface MissingPackage {
  /** The package manager's name for it. */
  readonly name: string;
  readonly purpose: string;
}

/** What to install and how. */
export interface SetupPlan {
  readonly packageManager: PackageManager;
  readonly missing: readonly MissingPackage[];
  /** Commands that bring it, to be run as root where the package manager is apt. */
  readonly commands: readonly (readonly string[])[];
}

/** What a plan is made from; everything but `forBuilding` is probed unless given. */
export interface SetupPlanOptions extends WaitOptions {
  /** Also what building SmolVM from a checkout needs (Go). Default false. */
  readonly forBuilding?: boolean;
  readonly platform?: NodeJS.Platform;
  readonly architecture?: Architecture;
  /** Whether a program is there. */
  readonly hasProgram?: (name: string) => boolean;
  /** Whether a file is there. */
  readonly hasFile?: (path: string) => boolean;
  /** Output of `go version`; `undefined` when there is no Go. */
  readonly goVersion?: () => Promise<string | undefined>;
}

/** Bound of asking Go for its version, in milliseconds. */
const DEFAULT_TIMEOUT_MS = 10_000;

/** Looks for everything in the package table and plans what to install. */
export async function planSetup(options: SetupPlanOptions = {}): Promise<SetupPlan> {
  const platform = options.platform ?? process.platform;
  const architecture = options.architecture ?? hostArchitecture();
  const hasProgram = options.hasProgram ?? ((name: string) => findProgram(name) !== undefined);
  const packageManager = pickPackageManager(platform, hasProgram);
  const probe: Probe = {
    architecture,
    hasProgram,
    hasFile: options.hasFile ?? existsSync,
    goVersion: options.goVersion ?? (() => askGo(Deadline.from(options, DEFAULT_TIMEOUT_MS))),
  };
  const missing: MissingPackage[] = [];
  for (const entry of HOST_PACKAGES) {
    if (entry.onlyForBuilding && options.forBuilding !== true) continue;
    const name = nameFor(entry, platform, architecture);
    if (name === undefined || (await isPresent(entry.evidence, probe))) continue;
    missing.push({ name, purpose: entry.purpose });
  }
  return { packageManager, missing, commands: commandsFor(packageManager, missing) };
}

/** The commands that install these packages. */
export function commandsFor(
  packageManager: PackageManager,
  missing: readonly MissingPackage[],
): readonly (readonly string[])[] {
  const names = missing.map(({ name }) => name);
  if (names.length === 0) return [];
  if (packageManager === "apt") return [APT_UPDATE_ARGV, aptInstallArgv(names)];
  return packageManager === "brew" ? [["brew", "install", ...names]] : [];
}

interface Probe {
  readonly architecture: Architecture;
  readonly hasProgram: (name: string) => boolean;
  readonly hasFile: (path: string) => boolean;
  readonly goVersion: () => Promise<string | undefined>;
}

async function isPresent(evidence: Evidence, probe: Probe): Promise<boolean> {
  switch (evidence.kind) {
    case "qemu":
      return probe.hasProgram(qemuSystemProgram(probe.architecture));
    case "programs":
      return evidence.names.every(probe.hasProgram);
    case "file":
      return probe.hasFile(evidence.path);
    case "go": {
      const version = parseGoVersion((await probe.goVersion()) ?? "");
      return version !== undefined && isAtLeast(version, evidence.atLeast);
    }
  }
}

function nameFor(entry: HostPackage, platform: NodeJS.Platform, architecture: Architecture): string | undefined {
  return platform === "darwin" ? entry.brew : entry.apt[architecture];
}

function pickPackageManager(platform: NodeJS.Platform, hasProgram: (name: string) => boolean): PackageManager {
  if (platform === "linux" && hasProgram("apt-get")) return "apt";
  if (platform === "darwin" && hasProgram("brew")) return "brew";
  return "none";
}

async function askGo(deadline: Deadline): Promise<string | undefined> {
  if (findProgram("go") === undefined) return undefined;
  const { stdout } = await runProgram(["go", "version"], {
    timeoutMs: deadline.remainingMs,
    signal: deadline.signal,
  });
  return stdout;
}
