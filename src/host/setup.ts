// Installs what the host lacks, where that is possible without asking anybody anything; says the commands otherwise.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { APT_UPDATE_ARGV, aptInstallArgv, aptProgress, parseInstallable } from "./apt.js";
import { findProgram } from "./find-program.js";
import { runProgram } from "./process.js";
import { type MissingPackage, planSetup, type SetupPlan } from "./setup-plan.js";
import { shellLine } from "./shell-line.js";
import { tapNeeds } from "./tap-needs.js";

/** Options of {@link runSetup}. */
export interface SetupOptions extends WaitOptions {
  /** Also what building SmolVM from a checkout needs (Go). Default false. */
  readonly forBuilding?: boolean;
  /** Only find out what would be done. Default false. */
  readonly dryRun?: boolean;
  readonly onProgress?: ProgressListener | undefined;
}

/** What set-up did, or what is left for the user. */
export interface SetupReport {
  /** `ready`: nothing was missing. `installed`: now nothing is. `manual`: the user has to run `commands`. */
  readonly status: "ready" | "installed" | "manual";
  /** What was missing at the start. */
  readonly missing: readonly MissingPackage[];
  /** Packages that no configured source offers, e.g. because the distribution is too old. */
  readonly unavailable: readonly string[];
  /** Lines to paste into a shell; empty unless the status is `manual`. */
  readonly commands: readonly string[];
  /** What the TAP network mode would need that this program does not have, for a person; nothing of it is done. */
  readonly tapNetwork: readonly string[];
  /** Why the status is `manual`. */
  readonly reason?: string;
}

/** Bound of a whole set-up, in milliseconds: a slow mirror takes minutes. */
const DEFAULT_TIMEOUT_MS = 15 * 60_000;
/** Bound of one apt call, in milliseconds. */
const APT_TIMEOUT_MS = 10 * 60_000;

/**
 * Installs the packages that are missing, as root or through `sudo -n`.
 *
 * @throws {HOST_COMMAND_FAILED} when the package manager fails.
 * @throws {TIMEOUT} after `timeoutMs` (default 15 minutes).
 */
export async function runSetup(options: SetupOptions = {}): Promise<SetupReport> {
  const deadline = Deadline.from(options, DEFAULT_TIMEOUT_MS);
  const forBuilding = options.forBuilding ?? false;
  const plan = await planSetup({ forBuilding, signal: options.signal });
  const { missing } = plan;
  if (missing.length === 0) return { status: "ready", missing, unavailable: [], commands: [], tapNetwork: tapNeeds() };
  if (options.dryRun === true) return manual(plan, "nothing is changed in a dry run");
  if (plan.packageManager !== "apt") {
    return manual(plan, "SmolVM installs packages only with apt; on other systems that is left to you");
  }
  const prefix = await rootPrefix(deadline);
  if (prefix === undefined) return manual(plan, "root is needed, and `sudo -n` does not give it without a password");
  const apt = new Apt(prefix, deadline, options.onProgress);
  const unavailable = await apt.install(missing.map(({ name }) => name));
  const left = await planSetup({ forBuilding, signal: options.signal });
  if (left.missing.length === 0)
    return { status: "installed", missing, unavailable, commands: [], tapNetwork: tapNeeds() };
  const names = left.missing.map(({ name }) => name).join(", ");
  return { ...manual(left, `still missing after the installation: ${names}`), missing, unavailable };
}

function manual(plan: SetupPlan, reason: string): SetupReport {
  const isApt = plan.packageManager === "apt";
  const sudo = isApt && process.getuid?.() !== 0 ? ["sudo"] : [];
  const commands = plan.commands.map((argv) => shellLine([...sudo, ...argv]));
  return { status: "manual", missing: plan.missing, unavailable: [], commands, tapNetwork: tapNeeds(), reason };
}

/** What to put before a command to run it as root: nothing, or sudo. `undefined` when neither works unattended. */
async function rootPrefix(deadline: Deadline): Promise<readonly string[] | undefined> {
  if (process.getuid?.() === 0) return [];
  if (findProgram("sudo") === undefined) return undefined;
  try {
    await runProgram(["sudo", "-n", "true"], { timeoutMs: deadline.remainingMs, signal: deadline.signal });
    return ["sudo", "-n"];
  } catch (error) {
    if (isSmolVMError(error, "HOST_COMMAND_FAILED")) return undefined;
    throw error;
  }
}

/** One session with apt: package lists are fetched at most once, and only when they must be. */
class Apt {
  readonly #prefix: readonly string[];
  readonly #deadline: Deadline;
  readonly #onProgress: ProgressListener | undefined;
  #hasUpdated = false;

  constructor(prefix: readonly string[], deadline: Deadline, onProgress: ProgressListener | undefined) {
    this.#prefix = prefix;
    this.#deadline = deadline;
    this.#onProgress = onProgress;
  }

  /** Installs what the sources offer; gives the names that they do not. */
  async install(names: readonly string[]): Promise<readonly string[]> {
    let unavailable = await this.#withoutCandidate(names);
    if (unavailable.length > 0) {
      await this.#update();
      unavailable = await this.#withoutCandidate(names);
    }
    const wanted = names.filter((name) => !unavailable.includes(name));
    if (wanted.length === 0) return unavailable;
    try {
      await this.#installNow(wanted);
    } catch (error) {
      // Old lists name versions that the mirror no longer has.
      if (this.#hasUpdated || !isSmolVMError(error, "HOST_COMMAND_FAILED")) throw error;
      await this.#update();
      await this.#installNow(wanted);
    }
    return unavailable;
  }

  async #withoutCandidate(names: readonly string[]): Promise<readonly string[]> {
    const { stdout } = await runProgram(["apt-cache", "policy", ...names], this.#wait());
    const installable = parseInstallable(stdout);
    return names.filter((name) => !installable.has(name));
  }

  async #update(): Promise<void> {
    const step = "Fetching package lists";
    this.#onProgress?.({ step });
    await runProgram([...this.#prefix, ...APT_UPDATE_ARGV], {
      ...this.#wait(),
      onStdoutLine: (detail) => this.#onProgress?.({ step, detail }),
    });
    this.#hasUpdated = true;
  }

  async #installNow(names: readonly string[]): Promise<void> {
    const step = `Installing ${names.length} Debian package${names.length === 1 ? "" : "s"}`;
    this.#onProgress?.({ step, detail: names.join(" ") });
    const read = aptProgress(step);
    await runProgram([...this.#prefix, ...aptInstallArgv(names)], {
      ...this.#wait(),
      onStdoutLine: (line) => {
        const event = read(line);
        if (event !== undefined) this.#onProgress?.(event);
      },
    });
  }

  #wait(): { timeoutMs: number; signal: AbortSignal | undefined } {
    const { remainingMs, signal } = this.#deadline.atMost(APT_TIMEOUT_MS);
    return { timeoutMs: remainingMs, signal };
  }
}
