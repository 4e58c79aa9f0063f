// How a caller runs a command, checked before the guest hears of it.

import { z } from "zod";
import { invalidConfig } from "../errors/invalid-config.js";
import type { OutputSink } from "../guest/byte-receiver.js";
import type { CommandInput } from "../guest/command-input.js";
import type { GuestCommand } from "../guest/exec-request.js";
import type { Environment } from "./environment-file.js";
import { refusal } from "./refusal.js";

/** Default bound of a command, in milliseconds. */
const DEFAULT_TIMEOUT_MS = 600_000;
/** Default of `maxOutputBytes`. */
export const DEFAULT_OUTPUT_LIMIT_BYTES = 10 * 1024 * 1024;
/** Strings of Node.js end a little above this (V8's limit is about 2^29 characters). */
const LARGEST_OUTPUT_LIMIT_BYTES = 256 * 1024 * 1024;

/** Options of `run` and `exec`. */
export interface CommandOptions {
  /** Absolute directory in the guest; the user's home by default. */
  readonly cwd?: string | undefined;
  /** Over the VM's own environment. */
  readonly env?: Environment | undefined;
  /** Name or uid in the guest; root by default. */
  readonly user?: string | undefined;
  /** Given to the command; its stdin is empty otherwise. */
  readonly stdin?: CommandInput | undefined;
  /** At least 1; `Infinity` for no limit. Default 600 000. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** What is kept of each of stdout and stderr, in bytes: 1 to 256 MiB, default 10 MiB. */
  readonly maxOutputBytes?: number | undefined;
  /** Throw `COMMAND_FAILED` unless the command exits with 0. Default false. */
  readonly check?: boolean | undefined;
  /** `"kill"` (default) ends what the command leaves behind in the guest; `"keep"` lets it run on. */
  readonly orphans?: "kill" | "keep" | undefined;
  /** Sees all output as it comes; a promise holds the command back until it resolves. */
  readonly onOutput?: OutputSink | undefined;
}

const hasNoNul = (value: string) => !value.includes("\0");
const text = (expected: string) => z.string(expected).refine(hasNoNul, expected);
const CWD_EXPECTED = "an absolute path in the guest, without NUL";
const USER_EXPECTED = "a user name or uid, without NUL";
const TIMEOUT_EXPECTED = "a whole number from 1, or Infinity";
const OUTPUT_LIMIT_EXPECTED = `a whole number from 1 to ${LARGEST_OUTPUT_LIMIT_BYTES}`;

const schema = z.strictObject(
  {
    cwd: text(CWD_EXPECTED).regex(/^\//, CWD_EXPECTED).optional(),
    env: z
      .record(
        z.string().regex(/^[^=\0\n]+$/, "a name without =, NUL and newline"),
        text("a text without NUL"),
        "an object of texts",
      )
      .optional(),
    user: text(USER_EXPECTED).min(1, USER_EXPECTED).optional(),
    stdin: z.custom<CommandInput>(isInput, "a text, bytes, or an async iterable of them").optional(),
    timeoutMs: z
      .union([z.int().min(1, TIMEOUT_EXPECTED), z.literal(Number.POSITIVE_INFINITY)], TIMEOUT_EXPECTED)
      .optional(),
    signal: z.instanceof(AbortSignal, { error: "an AbortSignal" }).optional(),
    maxOutputBytes: z
      .int(OUTPUT_LIMIT_EXPECTED)
      .min(1, OUTPUT_LIMIT_EXPECTED)
      .max(LARGEST_OUTPUT_LIMIT_BYTES, OUTPUT_LIMIT_EXPECTED)
      .optional(),
    check: z.boolean("true or false").optional(),
    orphans: z.enum(["kill", "keep"], '"kill" or "keep"').optional(),
    onOutput: z.custom<OutputSink>((value) => typeof value === "function", "a function").optional(),
  },
  "an object with the fields of CommandOptions",
);

function isInput(value: unknown): boolean {
  if (typeof value === "string" || value instanceof Uint8Array) return true;
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

/** Options with their defaults. */
export interface CheckedCommandOptions extends CommandOptions {
  readonly timeoutMs: number;
  readonly maxOutputBytes: number;
}

/** @throws {INVALID_CONFIG} naming the option. */
export function checkCommandOptions(options: CommandOptions = {}): CheckedCommandOptions {
  const parsed = schema.safeParse(options);
  if (!parsed.success) {
    throw refusal(parsed.error.issues, { input: options, name: "options", unknownField: "no option of this name" });
  }
  return {
    ...options,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    maxOutputBytes: options.maxOutputBytes ?? DEFAULT_OUTPUT_LIMIT_BYTES,
  };
}

/** @throws {INVALID_CONFIG} unless it is a program with arguments, none of which contains NUL. */
export function checkArgv(argv: readonly string[]): void {
  const isList = Array.isArray(argv) && argv.length > 0 && argv[0] !== "";
  if (!isList || argv.some((part) => typeof part !== "string" || part.includes("\0"))) {
    throw invalidConfig({ field: "argv", value: argv, expected: "a program and its arguments, texts without NUL" });
  }
}

/** @throws {INVALID_CONFIG} unless it is a shell line that is not empty. */
export function checkShellLine(command: string): void {
  if (typeof command !== "string" || command.trim() === "" || command.includes("\0")) {
    throw invalidConfig({ field: "command", value: command, expected: "a shell command, a text without NUL" });
  }
}

/** A program with its arguments, or a line for the login shell. @throws {INVALID_CONFIG} */
export function checkCommand(command: readonly string[] | string): GuestCommand {
  if (typeof command === "string") {
    checkShellLine(command);
    return { shellLine: command };
  }
  checkArgv(command);
  return { argv: command };
}
