// Another host process that uses SmolVM, driven from a test: test/fixtures/vm-program.mjs.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type {
  CheckpointInfo,
  CommandOptions,
  CommandResult,
  ExposeOptions,
  PoolOptions,
  PoolStats,
  ReconcileReport,
  SnapshotInfo,
  VMConfig,
  VMInfo,
} from "./smolvm.js";
import { eventually } from "./wait.js";

const CHECKOUT = join(import.meta.dirname, "../..");
const SCRIPT = "test/fixtures/vm-program.mjs";

/** What another process's call failed with. */
export class RemoteError extends Error {
  readonly code: string;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor({ code, message, hint, details }: Outcome<unknown>["error"] & object) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.details = details;
  }
}

/** A port of the host that leads to a guest. */
export interface Forward {
  readonly guestPort: number;
  readonly hostAddress: string;
  readonly hostPort: number;
}

/** One of many. */
export interface Outcome<T> {
  readonly value?: T;
  readonly error?: { code: string; message: string; hint: string; details: Record<string, unknown> };
}

/** One child of a fork. */
export type ForkOutcome =
  | { readonly ok: true; readonly vmId: string }
  | { readonly ok: false; readonly error: Outcome<unknown>["error"] & object };

/** The calls that the program understands. */
interface Calls {
  ping(): number;
  boot(config: VMConfig): string;
  create(config: VMConfig): string;
  createMany(configs: readonly VMConfig[]): Outcome<string>[];
  deleteMany(ids: readonly string[]): Outcome<unknown>[];
  start(id: string): void;
  stop(id: string): void;
  pause(id: string): void;
  resume(id: string): void;
  delete(id: string): { retainedDiskPath?: string };
  exec(id: string, argv: readonly string[], options?: CommandOptions): CommandResult;
  run(id: string, line: string, options?: CommandOptions): CommandResult;
  spawnDetached(id: string, line: string): string;
  upload(id: string, from: string, to: string): void;
  info(id: string): VMInfo;
  list(): VMInfo[];
  reconcile(): ReconcileReport;
  expose(id: string, guestPort: number, options?: ExposeOptions): Forward;
  snapshot(id: string, options?: { name?: string }): SnapshotInfo;
  restore(snapshotId: string, config?: VMConfig): string;
  deleteSnapshot(snapshotId: string): void;
  fork(id: string, options?: { count?: number }): ForkOutcome[];
  checkpoint(id: string): CheckpointInfo;
  rewind(id: string, checkpointId: string): void;
  pool(options: PoolOptions): void;
  poolFilled(): void;
  poolStats(): PoolStats;
  acquire(): string;
  buildImage(name: string): unknown;
  pruneImages(): { removed: unknown[]; freedBytes: number };
}

/** How to start it. */
export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Goes before the program's own argv. */
  readonly wrap?: readonly string[];
  /** Another checkout whose built package it uses. */
  readonly checkout?: string;
}

export class Program implements AsyncDisposable {
  readonly child: ChildProcess;
  /** What it reported beside answers. */
  readonly events: Record<string, unknown>[] = [];
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #nextId = 1;

  private constructor({ env = {}, wrap = [], checkout = CHECKOUT }: ProgramOptions) {
    const [file = "", ...args] = [...wrap, process.execPath, join(checkout, SCRIPT)];
    this.child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } });
    this.child.stdin?.on("error", () => {});
    const lines = createInterface({ input: this.child.stdout! });
    lines.on("line", (line) => this.#take(JSON.parse(line) as { id?: number }));
    this.child.once("close", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("The program ended"));
      this.#waiting.clear();
    });
  }

  /** Starts one and waits until it listens. */
  static async start(options: ProgramOptions = {}): Promise<Program> {
    const program = new Program(options);
    await eventually(() => (program.events.some((event) => event["ready"] === true) ? true : undefined));
    return program;
  }

  /** Starts several at once. */
  static startMany(count: number): Promise<Program[]> {
    return Promise.all(Array.from({ length: count }, () => Program.start()));
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** The steps that its calls have told of so far. */
  progress(): string[] {
    return this.events.flatMap((event) => ("progress" in event ? [(event["progress"] as { step: string }).step] : []));
  }

  /** Asks it to do something. Rejects with {@link RemoteError}. */
  call<K extends keyof Calls>(call: K, ...args: Parameters<Calls[K]>): Promise<ReturnType<Calls[K]>> {
    const id = this.#nextId++;
    const answer = new Promise<ReturnType<Calls[K]>>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    answer.catch(() => {}); // A test may have killed the program on purpose and not wait for this.
    this.child.stdin?.write(`${JSON.stringify({ id, call, args })}\n`);
    return answer;
  }

  /** SIGKILL, as a crash would. */
  async kill(): Promise<void> {
    if (this.#hasEnded()) return;
    const ended = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await ended;
  }

  /** Lets it end by itself. */
  async end(): Promise<void> {
    if (this.#hasEnded()) return;
    const ended = once(this.child, "exit");
    this.child.stdin?.end();
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  #take(line: { id?: number; value?: unknown; error?: Outcome<unknown>["error"] }): void {
    const waiting = line.id === undefined ? undefined : this.#waiting.get(line.id);
    if (line.id === undefined || waiting === undefined) {
      this.events.push(line as Record<string, unknown>);
      return;
    }
    this.#waiting.delete(line.id);
    if (line.error === undefined) waiting.resolve(line.value as never);
    else waiting.reject(new RemoteError(line.error));
  }
}
