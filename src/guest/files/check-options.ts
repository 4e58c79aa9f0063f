// Checks the options of every method of `vm.fs` before the guest hears of the call. An option that is not known would do
// nothing without a word, and of a wrong type something else than was meant.

import type { WaitOptions } from "../../base/deadline.js";
import { checkWaitOptions } from "../../errors/check-wait-options.js";
import { invalidConfig } from "../../errors/invalid-config.js";
import {
  checkEncoding,
  checkPosition,
  flagBits,
  type MkdirOptions,
  nameEncoding,
  parseMode,
  type ReaddirOptions,
  type ReadFileOptions,
  type ReadlinkOptions,
  type ReadStreamOptions,
  type RmOptions,
  type WriteFileOptions,
  type WriteStreamOptions,
} from "./file-options.js";

/** Throws INVALID_CONFIG unless the option may have this value. */
type Check = (value: never, field: string) => unknown;
/** All options of a method but those of every wait, so that none is forgotten here. */
type Checks<T> = Readonly<Record<Exclude<keyof T, keyof WaitOptions>, Check>>;

/** What a method takes besides `signal` and `timeoutMs`. */
interface Checked<T> {
  readonly options: Checks<T>;
  /** What a text or number alone stands for; null is as good as nothing then. */
  readonly alone?: keyof Checks<T>;
}

/** Shown in place of the value of an option that is not known: whatever it is, it was meant for something else. */
const HIDDEN = "(hidden)";

const encoding: Check = (value) => checkEncoding(value);
const encodingOrBuffer: Check = (value) => nameEncoding(value);
const mode: Check = (value) => parseMode(value);
const position: Check = (value, field) => checkPosition(field, value);
const lastPosition: Check = (value, field) => value === Number.POSITIVE_INFINITY || checkPosition(field, value);
const writeFlag: Check = (value, field) => flagBits(value, field);
const boolean: Check = (value, field) => {
  if (value !== undefined && typeof value !== "boolean") throw invalidConfig({ field, value, expected: "a boolean" });
};

const waitOnly: Checked<WaitOptions> = { options: {} };
const writeFile: Checked<WriteFileOptions> = { options: { encoding, mode, flag: writeFlag }, alone: "encoding" };

/** The options of each method, by the method's name. */
interface Methods {
  readonly readFile: ReadFileOptions;
  readonly writeFile: WriteFileOptions;
  readonly appendFile: WriteFileOptions;
  readonly mkdir: MkdirOptions;
  readonly readdir: ReaddirOptions;
  readonly stat: WaitOptions;
  readonly lstat: WaitOptions;
  readonly rm: RmOptions;
  readonly rename: WaitOptions;
  readonly chmod: WaitOptions;
  readonly symlink: WaitOptions;
  readonly readlink: ReadlinkOptions;
  readonly access: WaitOptions;
  readonly utimes: WaitOptions;
  readonly createReadStream: ReadStreamOptions;
  readonly createWriteStream: WriteStreamOptions;
}

const METHODS: { readonly [M in keyof Methods]: Checked<Methods[M]> } = {
  readFile: { options: { encoding, maxBytes: position }, alone: "encoding" },
  writeFile,
  appendFile: writeFile,
  mkdir: { options: { recursive: boolean, mode }, alone: "mode" },
  readdir: {
    options: { encoding: encodingOrBuffer, withFileTypes: boolean, recursive: boolean },
    alone: "encoding",
  },
  stat: waitOnly,
  lstat: waitOnly,
  rm: { options: { recursive: boolean, force: boolean } },
  rename: waitOnly,
  chmod: waitOnly,
  symlink: waitOnly,
  readlink: { options: { encoding: encodingOrBuffer }, alone: "encoding" },
  access: waitOnly,
  utimes: waitOnly,
  createReadStream: {
    options: { encoding, start: position, end: lastPosition, highWaterMark: position },
    alone: "encoding",
  },
  createWriteStream: {
    options: { encoding, flags: writeFlag, mode, start: position, highWaterMark: position },
    alone: "encoding",
  },
};

/** What may be given in place of options: an encoding or a mode alone, or nothing. */
type Given<T> = T | string | number | null | undefined;

/**
 * A method's options as an object.
 *
 * @throws {INVALID_CONFIG} on an option that the method does not have, or a value that it cannot have.
 */
export function checkOptions<M extends keyof Methods>(method: M, given: Given<Methods[M]>): Methods[M] {
  const { options: checks, alone }: { readonly options: Readonly<Record<string, Check>>; readonly alone?: string } =
    METHODS[method];
  const options = alone === undefined ? (given === undefined ? {} : given) : asObject(given, alone);
  if (Array.isArray(options)) {
    throw invalidConfig({ field: "options", value: options, expected: "an object with the call's options" });
  }
  checkWaitOptions(options as WaitOptions);
  const known = new Set(["signal", "timeoutMs", ...Object.keys(checks)]);
  const unknown = Object.keys(options as object).find((name) => !known.has(name));
  if (unknown !== undefined) {
    throw invalidConfig({
      field: unknown,
      value: HIDDEN,
      expected: `no option of this name: ${method} takes ${[...known].join(", ")}`,
    });
  }
  for (const [field, check] of Object.entries(checks)) check((options as Record<string, never>)[field] as never, field);
  return options as Methods[M];
}

function asObject(given: unknown, alone: string): unknown {
  const isAlone = typeof given === "string" || (typeof given === "number" && alone === "mode");
  return isAlone ? { [alone]: given } : (given ?? {});
}
