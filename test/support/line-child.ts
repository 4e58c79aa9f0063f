// A child that is asked in JSON lines, { id, ... }, and answers { id, value } or { id, error }, in any order.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** What a child's call failed with. */
export interface ToldError {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;
}

interface Answer {
  readonly id?: number;
  readonly ready?: boolean;
  readonly value?: unknown;
  readonly error?: ToldError;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A call of a child that failed. */
export class CallError extends Error {
  readonly code: string;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor({ code, message, hint, details }: ToldError) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.details = details;
  }
}

export class LineChild implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ready: Promise<void>;
  #sayReady: () => void = () => {};
  #nextId = 1;

  private constructor(argv: readonly string[], env: NodeJS.ProcessEnv) {
    const [file = "", ...args] = argv;
    this.child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"], env });
    this.child.stdin?.on("error", () => {});
    this.#ready = new Promise((resolve, reject) => {
      this.#sayReady = resolve;
      this.child.once("error", reject);
      this.child.once("close", () => reject(new Error(`"${argv.join(" ").slice(0, 200)}" ended`)));
    });
    createInterface({ input: this.child.stdout! }).on("line", (line) => this.#take(JSON.parse(line) as Answer));
    this.child.once("close", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("The child ended"));
      this.#waiting.clear();
    });
  }

  /** Starts one and waits until it says `{ ready: true }`. */
  static async start(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<LineChild> {
    const child = new LineChild(argv, env);
    await child.#ready;
    return child;
  }

  /** @throws {@link CallError} when the child says so. */
  ask<T>(request: Readonly<Record<string, unknown>>): Promise<T> {
    const id = this.#nextId++;
    const answer = new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
    });
    answer.catch(() => {}); // A test may have ended the child on purpose.
    this.child.stdin?.write(`${JSON.stringify({ id, ...request })}\n`);
    return answer;
  }

  /** Ends it, by the end of its stdin or, `isForced`, as a crash would. */
  async end(isForced = false): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, "exit");
    if (isForced) this.child.kill("SIGKILL");
    else this.child.stdin?.end();
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  #take(answer: Answer): void {
    if (answer.ready === true) this.#sayReady();
    const waiting = answer.id === undefined ? undefined : this.#waiting.get(answer.id);
    if (answer.id === undefined || waiting === undefined) return;
    this.#waiting.delete(answer.id);
    if (answer.error === undefined) waiting.resolve(answer.value);
    else waiting.reject(new CallError(answer.error));
  }
}
