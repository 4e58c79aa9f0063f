// VMs that are ready before anybody asks: clones of one configuration, kept running, handed out in the order of asking.
// They are tied to this program: once it has ended, however it ended, the next reconcile removes them.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { type Deferred, deferred } from "../base/deferred.js";
import { sleep } from "../base/sleep.js";
import { within } from "../base/within.js";
import { checkWaitOptions } from "../errors/check-wait-options.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { type CheckedConfig, checkConfig, type VMConfig } from "./vm-config.js";
import type { VmManager } from "./vm-manager.js";

/** VMs that a pool may keep. */
export const POOL_SIZE_LIMIT = 256;
/** Refills in a second unless asked otherwise, while nobody waits. */
const REFILLS_PER_SECOND = 4;
const REFILLS_PER_SECOND_LIMIT = 100;
/** VMs made at a time while somebody waits; else one. */
const MAKERS_LIMIT = 2;
/** After a VM was taken, so long nothing is made while nobody waits, in milliseconds: its first work comes first. */
const REFILL_DELAY_MS = 150;
/** Commands run in a VM before it counts as ready: an emulator gets faster with each. */
const WARM_UP_COMMANDS = 3;
/** Pause after a VM could not be made, in milliseconds; doubled with each failure in a row, up to the limit. */
const FIRST_RETRY_MS = 500;
const RETRY_LIMIT_MS = 30_000;
/** Default limit of {@link VmPool.acquire}, in milliseconds. */
const ACQUIRE_TIMEOUT_MS = 120_000;
/** How often VMs that wait are looked at, in milliseconds. */
const LOOK_EVERY_MS = 5_000;
/** Callers that may wait at a time. */
const WAITERS_LIMIT = 10_000;
/** Pause between two looks whether the pool is full, in milliseconds. */
const FULL_LOOK_MS = 20;

/** What a pool is made with. */
export interface PoolOptions {
  /** VMs to keep ready, 1 to 256. */
  readonly size: number;
  /** What each is; without `vmId`, and without fixed host ports: they can be only one VM's. */
  readonly config?: VMConfig | undefined;
  /** How many VMs are made in a second, at most, to refill it while nobody waits, 1 to 100. Default 4. */
  readonly refillsPerSecond?: number | undefined;
}

/** How a pool is doing. */
export interface PoolStats {
  /** VMs that it keeps ready when it is full. */
  readonly size: number;
  /** Ready now. */
  readonly ready: number;
  /** Being made now. */
  readonly filling: number;
  /** Callers that wait now. */
  readonly waiting: number;
  /** Calls that found one ready. */
  readonly hits: number;
  /** Calls that had to wait. */
  readonly misses: number;
  /** VMs that died while they waited. */
  readonly died: number;
  /** VMs that could not be made. */
  readonly failed: number;
}

/** A call that waits for a VM. */
interface Waiter extends Deferred<string> {
  /** Its place among all calls: who asked first has the lowest. */
  readonly ticket: number;
  /** What it was given. */
  vmId?: string;
}

/** A pool over one manager; VMs are told by their ids. */
export class VmPool implements AsyncDisposable {
  readonly #manager: VmManager;
  readonly #config: Omit<VMConfig, "stateDir">;
  readonly #isProcessBound: boolean;
  readonly #size: number;
  readonly #pauseMs: number;
  readonly #ready: string[] = [];
  /** In the order of their tickets. While somebody waits, nothing is ready. */
  readonly #waiters: Waiter[] = [];
  readonly #closing = new AbortController();
  readonly #making = new Set<Promise<void>>();
  readonly #discarding = new Set<Promise<unknown>>();
  readonly #counts = { hits: 0, misses: 0, died: 0, failed: 0 };
  readonly #lookTimer: NodeJS.Timeout;
  /** When the next one may be made while nobody waits, on the clock of performance.now(). */
  #nextRefillMs = 0;
  #refillTimer: NodeJS.Timeout | undefined;
  #failuresInARow = 0;
  #nextTicket = 0;
  #closed: Promise<void> | undefined;

  /** Begins to fill at once. @throws {INVALID_CONFIG} naming the field. */
  constructor(manager: VmManager, options: PoolOptions) {
    const { size, config = {}, refillsPerSecond = REFILLS_PER_SECOND } = options;
    requireWhole("size", size, POOL_SIZE_LIMIT);
    requireWhole("refillsPerSecond", refillsPerSecond, REFILLS_PER_SECOND_LIMIT);
    this.#isProcessBound = checkPoolConfig(config).lifetime === "process";
    const { stateDir: _elsewhere, ...rest } = config;
    this.#manager = manager;
    this.#config = { ...rest, lifetime: "process" };
    this.#size = size;
    this.#pauseMs = 1_000 / refillsPerSecond;
    this.#lookTimer = setInterval(() => void this.#look(), LOOK_EVERY_MS).unref();
    this.#refill();
  }

  /**
   * Takes a VM out of the pool; it is the caller's from then on. Who asks first is served first.
   *
   * @param options `timeoutMs`: default 120 000.
   * @returns The id of a running VM.
   * @throws {INVALID_STATE} when the pool is closed. @throws {TIMEOUT} @throws {ABORTED}
   * @throws {BUSY} when too many wait already. Otherwise what making a VM throws, for one that waited for it.
   */
  async acquire(options: WaitOptions = {}): Promise<string> {
    checkWaitOptions(options);
    const deadline = Deadline.from(options, ACQUIRE_TIMEOUT_MS);
    const ticket = this.#nextTicket++;
    for (;;) {
      this.#requireOpen();
      if (deadline.isAborted) throw waitError("Wait for a VM of the pool", deadline);
      const vmId = this.#ready.shift();
      if (vmId === undefined) break;
      this.#nextRefillMs = Math.max(this.#nextRefillMs, performance.now() + REFILL_DELAY_MS);
      this.#refill();
      if (!(await this.#isRunning(vmId))) {
        void this.#bury(vmId); // Not waited for: others would be served meanwhile.
        continue;
      }
      const first = this.#waiters[0];
      if (first === undefined || first.ticket > ticket) {
        this.#counts.hits += 1;
        return this.#handOut(vmId);
      }
      // One that asked earlier got a dead VM, and waits since: this one is its.
      this.#deliver(vmId);
      break;
    }
    this.#counts.misses += 1;
    return this.#handOut(await this.#wait(ticket, deadline));
  }

  stats(): PoolStats {
    const counts = { ready: this.#ready.length, filling: this.#making.size, waiting: this.#waiters.length };
    return { size: this.#size, ...counts, ...this.#counts };
  }

  /** Waits until the pool is full. @throws {TIMEOUT} {ABORTED} {INVALID_STATE} when it was closed. */
  async filled(options: WaitOptions = {}): Promise<void> {
    checkWaitOptions(options);
    const deadline = Deadline.from(options, ACQUIRE_TIMEOUT_MS);
    while (this.#ready.length < this.#size) {
      this.#requireOpen();
      if (deadline.isAborted || deadline.hasExpired) throw waitError("Wait for the pool to be full", deadline);
      await sleep(Math.min(FULL_LOOK_MS, deadline.remainingMs), deadline.signal);
    }
  }

  /** Deletes the VMs that nobody took; calls that wait fail. Closing twice is fine. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#lookTimer);
    clearTimeout(this.#refillTimer);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closedError());
    await Promise.all(this.#making);
    for (const vmId of this.#ready.splice(0)) void this.#discard(vmId);
    await Promise.all(this.#discarding);
  }

  /** Makes what is missing: at once for those who wait, else one after the other and no faster than asked. */
  #refill(): void {
    for (;;) {
      const lack = this.#size + this.#waiters.length - this.#ready.length - this.#making.size;
      const isUrgent = this.#waiters.length > 0;
      if (lack <= 0 || this.#closing.signal.aborted) return;
      if (this.#making.size >= (isUrgent ? MAKERS_LIMIT : 1)) return; // Its end leads here again.
      const waitMs = this.#nextRefillMs - performance.now();
      if (waitMs > 0 && !(isUrgent && this.#failuresInARow === 0)) {
        clearTimeout(this.#refillTimer);
        this.#refillTimer = setTimeout(() => this.#refill(), waitMs);
        if (!isUrgent) this.#refillTimer.unref(); // A pool that nobody waits for lets its program end.
        return;
      }
      this.#nextRefillMs = performance.now() + this.#pauseMs;
      const making = this.#makeOne().finally(() => {
        this.#making.delete(making);
        this.#refill();
      });
      this.#making.add(making);
    }
  }

  /** Never rejects. */
  async #makeOne(): Promise<void> {
    const { signal } = this.#closing;
    let vmId: string | undefined;
    try {
      vmId = await this.#manager.create(this.#config, { start: true, signal });
      // The first commands of a new guest are slow; it is better that nobody waits for them.
      for (let count = 0; count < WARM_UP_COMMANDS; count++) await this.#manager.exec(vmId, ["true"], { signal });
      this.#failuresInARow = 0;
      this.#deliver(vmId);
    } catch (error) {
      if (vmId !== undefined) await this.#discard(vmId);
      if (signal.aborted) return;
      this.#counts.failed += 1;
      const pauseMs = Math.min(RETRY_LIMIT_MS, FIRST_RETRY_MS * 2 ** this.#failuresInARow);
      this.#failuresInARow += 1;
      this.#nextRefillMs = performance.now() + pauseMs;
      this.#waiters.shift()?.reject(error);
    }
  }

  #deliver(vmId: string): void {
    if (this.#closing.signal.aborted) {
      void this.#discard(vmId);
      return;
    }
    const waiter = this.#waiters.shift();
    if (waiter === undefined) {
      this.#ready.push(vmId);
      return;
    }
    waiter.vmId = vmId;
    waiter.resolve(vmId);
  }

  #wait(ticket: number, deadline: Deadline): Promise<string> {
    if (this.#waiters.length >= WAITERS_LIMIT) {
      throw new SmolVMError("BUSY", `Cannot wait for a VM of the pool: ${WAITERS_LIMIT} calls wait already`);
    }
    const waiter: Waiter = { ...deferred<string>(), ticket };
    // Not always the last: one whose VM turned out to be dead goes before those who asked after it.
    this.#waiters.splice(this.#waiters.findLastIndex((other) => other.ticket < ticket) + 1, 0, waiter);
    this.#refill();
    return within(waiter.promise, deadline, (): never => {
      const index = this.#waiters.indexOf(waiter);
      if (index >= 0) this.#waiters.splice(index, 1);
      else if (waiter.vmId !== undefined) this.#deliver(waiter.vmId); // It came in the same moment.
      throw waitError("Wait for a VM of the pool", deadline);
    });
  }

  async #handOut(vmId: string): Promise<string> {
    try {
      if (!this.#isProcessBound) await this.#manager.keep(vmId);
      return vmId;
    } catch (error) {
      await this.#discard(vmId);
      throw error;
    }
  }

  async #look(): Promise<void> {
    for (const vmId of [...this.#ready]) {
      if (!this.#ready.includes(vmId)) continue;
      const isWell = await this.#isRunning(vmId);
      const index = this.#ready.indexOf(vmId);
      if (isWell || index < 0) continue;
      this.#ready.splice(index, 1);
      await this.#bury(vmId);
    }
  }

  #isRunning(vmId: string): Promise<boolean> {
    return this.#manager.info(vmId).then(
      ({ status }) => status === "running",
      () => false,
    );
  }

  async #bury(vmId: string): Promise<void> {
    this.#counts.died += 1;
    await this.#discard(vmId);
    this.#refill();
  }

  /** What cannot be deleted now is deleted by the next reconcile after this program's end. */
  async #discard(vmId: string): Promise<void> {
    const discarding = this.#manager.delete(vmId).catch(() => {});
    this.#discarding.add(discarding);
    await discarding;
    this.#discarding.delete(discarding);
  }

  #requireOpen(): void {
    if (this.#closing.signal.aborted) throw closedError();
  }
}

function closedError(): SmolVMError {
  return new SmolVMError("INVALID_STATE", "Cannot take a VM out of the pool: it is closed");
}

function requireWhole(field: string, value: unknown, limit: number): void {
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= limit) return;
  throw invalidConfig({ field, value, expected: `a whole number from 1 to ${limit}` });
}

function checkPoolConfig(config: VMConfig): CheckedConfig {
  const checked = checkConfig(config);
  if (checked.vmId !== undefined) {
    const expected = "nothing: each VM of a pool gets an id of its own";
    throw invalidConfig({ field: "config.vmId", value: checked.vmId, expected });
  }
  const fixed = checked.ports.find(({ host }) => host);
  if (fixed !== undefined) {
    const expected = "no host port of its own: a host port leads to one VM";
    throw invalidConfig({ field: "config.ports", value: fixed.host, expected });
  }
  return checked;
}
