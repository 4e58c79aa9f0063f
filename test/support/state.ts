// A state directory for one test file, and the proof that the file left nothing of it behind.

import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "@photostructure/sqlite";
import { afterAll, expect } from "vitest";
import { hostPaths, type VMConfig, VmManager } from "./smolvm.js";
import { eventually } from "./wait.js";

/** One state directory of its own. */
export interface TestState {
  readonly stateDir: string;
  /** Where its VMs have their sockets. */
  readonly runtimeDir: string;
  readonly databasePath: string;
  /** A small VM without a network in it; `overrides` win. */
  config(overrides?: VMConfig): VMConfig;
}

/** Tables that hold facts rather than something of a VM. */
const FACTS = ["verdicts", "retained_disks"];
/**
 * Emulation by default: it works everywhere, and a trial of KVM in every new state directory would cost seconds.
 * `SMOLVM_TEST_ACCEL=auto` or `kvm` runs all of this with KVM.
 */
const ACCEL = (process.env["SMOLVM_TEST_ACCEL"] ?? "tcg") as NonNullable<VMConfig["accel"]>;

/** Makes a state directory, `SMOLVM_STATE_DIR` of this file and its children. Call it at the top of the file. */
export function testState(): TestState {
  const stateDir = mkdtempSync(join(tmpdir(), "smolvm-vmtest-"));
  process.env["SMOLVM_STATE_DIR"] = stateDir;
  const { runtimeDir } = hostPaths();
  // The hook that is registered first runs last: after everything that a file tidies up itself.
  afterAll(async () => {
    try {
      await expectNothingLeft(stateDir);
    } finally {
      await deleteAll(stateDir);
      rmSync(stateDir, { recursive: true, force: true });
      rmSync(runtimeDir, { recursive: true, force: true });
    }
  });
  return {
    stateDir,
    runtimeDir,
    databasePath: join(stateDir, "smolvm.db"),
    config: (overrides = {}) => ({ memSizeMib: 256, network: "none", accel: ACCEL, ...overrides }),
  };
}

/** After a failed test: no VM may outlive the file that made it. */
export async function deleteAll(stateDir: string): Promise<void> {
  if (!existsSync(join(stateDir, "smolvm.db"))) return;
  await using manager = new VmManager({ stateDir });
  for (const { vmId } of await manager.list()) await manager.delete(vmId).catch(() => {});
}

/** Fails when a process, socket, row or file of a state directory is left. */
export async function expectNothingLeft(stateDir: string): Promise<void> {
  const { runtimeDir } = hostPaths({ stateDir });
  const look = () => leftovers(stateDir, runtimeDir);
  // A process that was told to end may take a moment.
  await eventually(() => (look().processes.length === 0 ? true : undefined)).catch(() => {});
  expect(look()).toEqual({ processes: [], sockets: [], directories: [], rows: {} });
}

function leftovers(stateDir: string, runtimeDir: string) {
  return {
    processes: processesAbout(stateDir, runtimeDir),
    sockets: entries(runtimeDir),
    directories: entries(join(stateDir, "vms")),
    rows: rows(join(stateDir, "smolvm.db")),
  };
}

/** Processes, other than this one, whose arguments or working directory name one of these directories. */
export function processesAbout(...places: readonly string[]): string[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    try {
      const told = `${readFileSync(`/proc/${name}/cmdline`, "utf8")}\0${readlinkSync(`/proc/${name}/cwd`)}`;
      return places.some((place) => told.includes(place)) ? [`${name} ${told.replaceAll("\0", " ")}`] : [];
    } catch {
      return []; // It ended.
    }
  });
}

function entries(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

function rows(path: string): Record<string, unknown[]> {
  if (!existsSync(path)) return {};
  return withDatabase(path, (db) => {
    const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all() as { name: string }[];
    const ofVms = tables.map(({ name }) => name).filter((name) => !FACTS.includes(name) && !name.startsWith("sqlite_"));
    const found = ofVms.map((table) => [table, db.prepare(`SELECT * FROM ${table}`).all()] as const);
    return Object.fromEntries(found.filter(([, list]) => list.length > 0));
  });
}

/** Looks into, or tampers with, the state database. */
export function withDatabase<T>(path: string, use: (db: InstanceType<typeof DatabaseSync>) => T): T {
  const db = new DatabaseSync(path, { timeout: 15_000 });
  try {
    return use(db);
  } finally {
    db.close();
  }
}

/** Pids of the VMMs of a state directory. */
export function vmmPids(runtimeDir: string): number[] {
  return processesAbout(runtimeDir)
    .filter((line) => /^\d+ \S*qemu-system-/.test(line))
    .map((line) => Number.parseInt(line, 10));
}
