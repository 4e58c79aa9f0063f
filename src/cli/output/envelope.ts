// The one JSON document that `--json` prints.

import type { Outcome } from "../command.js";
import { errorReport } from "./error-text.js";

/** @returns The document and a newline. `ok` is true exactly when `exitCode` is 0. */
export function envelope(command: string, { data, failures = [] }: Outcome, exitCode: number): string {
  const [first] = failures;
  const error = exitCode === 0 || first === undefined ? null : errorReport(first);
  const shown = error === null ? null : { code: error.code, message: error.message, hint: error.hint };
  const document = { ok: exitCode === 0, command, exitCode, data: data ?? null, error: shown };
  return `${JSON.stringify(document, plain, 2).replaceAll(CONTROL_CHARACTERS, escaped)}\n`;
}

/** JSON escapes those below them by itself; a terminal obeys these too. */
const CONTROL_CHARACTERS = /[\x7f-\x9f]/g;

function escaped(char: string): string {
  return `\\u00${char.charCodeAt(0).toString(16)}`;
}

/** Makes plain data of what JSON has no word for. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return { name: value.name, message: value.message };
  return value;
}
