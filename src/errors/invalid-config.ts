// The one shape of "you gave me a bad value".

import { SmolVMError } from "./smolvm-error.js";

/** Which value was refused and what would have been accepted. */
export interface InvalidValue {
  /** Path of the field, e.g. `"ports[0].guest"`. */
  readonly field: string;
  /** What was given. Never put a secret here. */
  readonly value: unknown;
  /** What is accepted, e.g. `"an integer from 1 to 32"`. */
  readonly expected: string;
}

/** The `INVALID_CONFIG` error for one refused value. */
export function invalidConfig(refused: InvalidValue, cause?: unknown): SmolVMError {
  const shown = describe(refused.value);
  return new SmolVMError("INVALID_CONFIG", `Invalid ${refused.field}: got ${shown}, expected ${refused.expected}`, {
    details: { ...refused, value: shown },
    cause,
  });
}

/** Longest rendering of a refused value, in characters. */
const SHOWN_LIMIT_CHARS = 120;

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  let text: string;
  try {
    // JSON knows neither these types nor NaN and Infinity.
    text = ["bigint", "function", "number"].includes(typeof value) ? String(value) : JSON.stringify(value);
  } catch {
    text = Object.prototype.toString.call(value);
  }
  text ??= String(value);
  return text.length > SHOWN_LIMIT_CHARS ? `${text.slice(0, SHOWN_LIMIT_CHARS)}...` : text;
}
