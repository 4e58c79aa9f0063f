// What a program wants to hear of commands before and after they run. Kept for a VM's id, so every handle of the program
// and every way of running a command has them.

import type { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import type { CommandResult } from "../guest/command-result.js";
import type { GuestCommand, PtySize } from "../guest/exec-request.js";

/** A command that is about to run, or has run. */
export interface HookedCommand {
  readonly vmId: string;
  /** The program with its arguments, or `undefined` for a shell's line. */
  readonly argv: readonly string[] | undefined;
  /** The shell's line, or `undefined` for a program; empty for a login shell that is talked to. */
  readonly line: string | undefined;
  readonly cwd: string | undefined;
  readonly user: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly pty: PtySize | undefined;
  readonly detached: boolean;
}

/** What {@link CommandHooks.beforeRun} may answer; an answer that is not there lets the command run. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function that answers nothing is the usual one.
export type HookAnswer = void | undefined | boolean | { readonly refuse: string };

/** All optional. */
export interface CommandHooks {
  /**
   * Called before the guest hears of the command, which waits for the answer. `false`, `{ refuse: "reason" }` or an error
   * refuses it: the caller gets `COMMAND_REFUSED`.
   */
  readonly beforeRun?: ((command: HookedCommand) => HookAnswer | Promise<HookAnswer>) | undefined;
  /** Sees how a command ended. Nobody waits for it, and what it throws becomes a process warning. */
  readonly afterRun?: ((command: HookedCommand, result: CommandResult) => unknown) | undefined;
  /** Sees why a command failed as a call: it was refused, did not start, ran too long. Otherwise as `afterRun`. */
  readonly onError?: ((command: HookedCommand, error: unknown) => unknown) | undefined;
}

const HOOK_NAMES: readonly string[] = ["beforeRun", "afterRun", "onError"];
/** Stands for all VMs. */
const EVERY_VM = "";

export class HookRegistry {
  readonly #hooks = new Map<string, Set<CommandHooks>>();

  /**
   * @param vmId `undefined`: all VMs.
   * @returns What takes them away again.
   * @throws {INVALID_CONFIG}
   */
  add(vmId: string | undefined, hooks: CommandHooks): () => void {
    checkHooks(hooks);
    const key = vmId ?? EVERY_VM;
    const entry = { ...hooks };
    const known = this.#hooks.get(key) ?? new Set();
    this.#hooks.set(key, known.add(entry));
    return () => {
      known.delete(entry);
    };
  }

  /** The VM is gone: another one of this id is not meant by its hooks. */
  forget(vmId: string): void {
    this.#hooks.delete(vmId);
  }

  /** @returns `undefined` when nobody wants to hear of the VM's commands. */
  for(command: HookedCommand): HookCall | undefined {
    const hooks = [EVERY_VM, command.vmId].flatMap((key) => [...(this.#hooks.get(key) ?? [])]);
    return hooks.length === 0 ? undefined : new HookCall(hooks, command);
  }
}

/** The hooks of one command. */
export class HookCall {
  readonly #hooks: readonly CommandHooks[];
  readonly #command: HookedCommand;

  constructor(hooks: readonly CommandHooks[], command: HookedCommand) {
    this.#hooks = hooks;
    this.#command = Object.freeze(command);
  }

  /** @throws {COMMAND_REFUSED} when one of them refuses. @throws {TIMEOUT} {ABORTED} */
  async before(deadline: Deadline): Promise<void> {
    for (const { beforeRun } of this.#hooks) {
      if (beforeRun === undefined) continue;
      const asking = (async () => beforeRun(this.#command))().catch((cause: unknown) => {
        throw this.#refused(cause instanceof Error ? cause.message : String(cause), cause);
      });
      const answer = await within(asking, deadline, (): never => {
        throw waitError("Hook beforeRun", deadline);
      });
      if (answer === false) throw this.#refused("beforeRun answered false");
      if (typeof answer === "object" && answer !== null) throw this.#refused(String(answer.refuse));
    }
  }

  after(result: CommandResult): void {
    for (const { afterRun } of this.#hooks) observe("afterRun", () => afterRun?.(this.#command, result));
  }

  failed(error: unknown): void {
    for (const { onError } of this.#hooks) observe("onError", () => onError?.(this.#command, error));
  }

  #refused(reason: string, cause?: unknown): SmolVMError {
    const { vmId } = this.#command;
    const text = `A hook refused to run a command in VM "${vmId}": ${reason}`;
    return new SmolVMError("COMMAND_REFUSED", text, { details: { vmId, reason }, cause });
  }
}

/** What a hook sees of a command. */
export function hookedCommand(
  vmId: string,
  command: GuestCommand,
  options: {
    readonly cwd?: string | undefined;
    readonly user?: string | undefined;
    readonly env?: Readonly<Record<string, string>> | undefined;
    readonly pty?: PtySize | undefined;
    readonly detached?: boolean | undefined;
  },
): HookedCommand {
  return {
    vmId,
    argv: "argv" in command ? [...command.argv] : undefined,
    line: "shellLine" in command ? command.shellLine : undefined,
    cwd: options.cwd,
    user: options.user,
    env: { ...options.env },
    pty: options.pty,
    detached: options.detached ?? false,
  };
}

function observe(name: string, call: () => unknown): void {
  const warn = (error: unknown) => process.emitWarning(`SmolVM: hook ${name} failed: ${String(error)}`);
  try {
    Promise.resolve(call()).catch(warn);
  } catch (error) {
    warn(error);
  }
}

function checkHooks(hooks: CommandHooks): void {
  const expected = "an object of functions beforeRun, afterRun, onError";
  if (typeof hooks !== "object" || hooks === null) throw invalidConfig({ field: "hooks", value: hooks, expected });
  for (const [name, hook] of Object.entries(hooks)) {
    if (!HOOK_NAMES.includes(name)) {
      throw invalidConfig({ field: `hooks.${name}`, value: typeof hook, expected: `one of ${HOOK_NAMES.join(", ")}` });
    }
    if (hook !== undefined && typeof hook !== "function") {
      throw invalidConfig({ field: `hooks.${name}`, value: hook, expected: "a function" });
    }
  }
}
