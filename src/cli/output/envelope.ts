// The one JSON document that `--json` prints.

import type { Outcome } from "../command.js";
import { errorReport } from "./error-text.js";

/** @returns The document and a newline. `ok` is true exactly when `exitCode` is 0. */
export function envelope(command: string, { data, failures = [] }: Outcome, exitCode: number): string {
  const [first] = failures;
  const error = exitCode === 0 || first === undefined ? null : errorReport(first);
  const shown = error === null ? null : { code: error.code, message: error.message, hint: error.hint };
  const document = { ok: exitCode === 0, command, exitCode, data: data ?? null, error: shown };
  return `${JSON.stringify(document, plain, 2)}\n`;
}

/** Makes plain data of what JSON has no word for. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return { name: value.name, message: value.message };
  return value;
}
