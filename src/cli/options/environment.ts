// The values of `--env`.

import { invalidConfig } from "../../errors/invalid-config.js";

/** Gathers repeated `--env`. */
export function collectText(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/**
 * @param field What an error calls them.
 * @param entries `NAME=VALUE`, or `NAME` alone, whose value is taken from our own environment.
 * @throws {INVALID_CONFIG} for an entry without a name, or a name that our environment does not have.
 */
export function environment(
  entries: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
  field = "--env",
): Record<string, string> {
  return Object.fromEntries(entries.map((entry) => parse(entry, own, field)));
}

function parse(entry: string, own: Readonly<Record<string, string | undefined>>, field: string): [string, string] {
  const end = entry.indexOf("=");
  const name = end === -1 ? entry : entry.slice(0, end);
  // Never shown whole: what follows the name may be a secret.
  if (name === "") throw invalidConfig({ field, value: "(no name)", expected: "NAME=VALUE or NAME" });
  const value = end === -1 ? own[name] : entry.slice(end + 1);
  if (value === undefined) {
    throw invalidConfig({ field, value: name, expected: "NAME=VALUE, or the name of a variable that is set" });
  }
  return [name, value];
}
