// What a command of the command line is, and what it is given. No command writes JSON or sets an exit code itself.

import type { Readable, Writable } from "node:stream";
import type { Command } from "commander";
import type { ProgressListener } from "../base/progress.js";
import type { CommandNode } from "./completion/command-tree.js";

/** Everything that the command line can do, it does through this. */
export type Sdk = typeof import("../index.js");

/** A stream that may be a terminal. */
export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };
/** A stream that may be a terminal's keyboard. */
export type InputStream = Readable & { readonly isTTY?: boolean; setRawMode?(isRaw: boolean): unknown };

/** The program's surroundings, so that tests can supply their own. */
export interface CliHost {
  readonly stdin: InputStream;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Runs a program on our streams. @returns Its exit code. */
  runAttached(argv: readonly string[], signal: AbortSignal): Promise<number>;
  /** Makes the terminal show output as it is, until raw mode is switched off. */
  showOutputAsItIs(): Promise<void>;
  /** Loads the library: nothing of it is loaded before a command needs it. */
  loadSdk(): Promise<Sdk>;
}

/** What a command may use. */
export interface CommandContext {
  readonly host: CliHost;
  readonly isJson: boolean;
  /** Fires on Ctrl-C and the like, and when nobody reads stdout any more. */
  readonly signal: AbortSignal;
  /** Shows what is being done, on a terminal. */
  readonly onProgress: ProgressListener;
  /** Takes what {@link onProgress} shows off the screen, before other output. */
  endProgress(): void;
  /** All commands and options, for completion. */
  commandTree(): Promise<CommandNode>;
}

/** What the user typed after the command's name. */
export interface CommandInput<Options> {
  readonly args: readonly string[];
  readonly options: Options;
}

/** How a command ended. */
export interface Outcome {
  /** `data` of `--json`. */
  readonly data: unknown;
  /** For stdout without `--json`; a final newline is added. */
  readonly text?: string | undefined;
  /** Why the command failed; the first decides the exit status. */
  readonly failures?: readonly unknown[] | undefined;
  /** An exit status of the guest's choosing, instead of the first failure's. */
  readonly exitCode?: number | undefined;
  /** Whether failures are for `--json` only, because the user has seen what happened. Default false. */
  readonly isQuiet?: boolean | undefined;
}

/** One command. */
export interface CommandModule<Options = object> {
  /** Progress of minutes also goes to a stderr that is no terminal, line by line. Default false. */
  readonly isLong?: boolean;
  /** Declares arguments and options; loads nothing. */
  configure(command: Command): void;
  run(context: CommandContext, input: CommandInput<Options>): Promise<Outcome>;
}
