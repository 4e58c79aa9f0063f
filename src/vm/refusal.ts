// From what zod says of a caller's value to the one INVALID_CONFIG error that the caller reads.

import type { z } from "zod";
import { invalidConfig } from "../errors/invalid-config.js";

/** Shown in place of a value that may be secret. */
const HIDDEN = "(hidden)";
/** Fields whose content is never shown. */
const SECRET_FIELDS: readonly PropertyKey[] = ["envVars", "env", "stdin"];

/** What was refused. */
export interface RefusedInput {
  /** What the caller gave, as a whole. */
  readonly input: unknown;
  /** Its name in a message, e.g. `"config"`. */
  readonly name: string;
  /** What is said of a field that there is not. */
  readonly unknownField: string;
}

/** The error for the first issue. */
export function refusal(issues: readonly z.core.$ZodIssue[], { input, name, unknownField }: RefusedInput): Error {
  const issue = issues[0] === undefined ? undefined : innermost(issues[0]);
  if (issue === undefined) return invalidConfig({ field: name, value: HIDDEN, expected: "something else" });
  const { path } = issue;
  if (issue.code === "unrecognized_keys") {
    // Whatever it is: a misspelt `envVars` holds secrets too.
    return invalidConfig({ field: fieldName([...path, issue.keys[0] ?? ""]), value: HIDDEN, expected: unknownField });
  }
  if (issue.code === "invalid_key") {
    // Not the key itself: `NAME=VALUE` in the place of a name is a slip that would show the value.
    const expected = issue.issues[0]?.message ?? issue.message;
    return invalidConfig({ field: fieldName(path.slice(0, -1)), value: HIDDEN, expected });
  }
  const isSecret = path[0] !== undefined && SECRET_FIELDS.includes(path[0]);
  const value = isSecret ? HIDDEN : valueAt(input, path);
  return invalidConfig({ field: fieldName(path) || name, value, expected: issue.message });
}

/** Of a value with several forms: what is wrong with the form that was meant. */
function innermost(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== "invalid_union") return issue;
  const inner = issue.errors
    .flatMap(([first]) => first ?? [])
    .find(({ path: at, code }) => at.length > 0 || code === "unrecognized_keys");
  return inner === undefined ? issue : innermost({ ...inner, path: [...issue.path, ...inner.path] });
}

function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, part) => {
    if (typeof part === "number") return `${name}[${part}]`;
    return name === "" ? String(part) : `${name}.${String(part)}`;
  }, "");
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) =>
      value === null || value === undefined ? undefined : (value as Record<PropertyKey, unknown>)[part],
    input,
  );
}
