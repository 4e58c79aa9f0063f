// Failures in words: one line, a hint, and the last words of a guest that did not boot.

import { ERROR_CODES, type ErrorCode } from "../../errors/codes.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { optionOfField } from "../options/option-names.js";
import { printable } from "./printable.js";

/** A failure, whatever was thrown. */
export interface ErrorReport {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly exitStatus: number;
}

/** What is known of anything thrown; what is not ours is `INTERNAL`. */
export function errorReport(error: unknown): ErrorReport {
  if (error instanceof SmolVMError) {
    const { code, message, exitStatus } = error;
    return { code, message, hint: hintOf(error), exitStatus };
  }
  const { exitStatus } = ERROR_CODES.INTERNAL;
  const hint = "Report it with the stack that SMOLVM_DEBUG=1 shows.";
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error), hint, exitStatus };
}

/** @returns Lines for stderr, each ended. `isDebug`: with the stack. */
export function errorText(error: unknown, { isDebug }: { readonly isDebug: boolean }): string {
  const { code, message, hint } = errorReport(error);
  const lines = [`smolvm: ${oneLine(message)}`];
  if (hint !== "" && code !== "ABORTED") lines.push(`hint: ${oneLine(hint)}`);
  if (error instanceof SmolVMError) lines.push(...lastWords(error));
  if (isDebug && error instanceof Error && error.stack !== undefined) lines.push(error.stack, ...causes(error));
  return `${lines.map(printable).join("\n")}\n`;
}

/** The field that a message names is an option here. */
function hintOf({ code, hint, details }: SmolVMError): string {
  if (code !== "INVALID_CONFIG" || hint !== ERROR_CODES.INVALID_CONFIG.hint) return hint;
  const option = optionOfField(String(details["field"] ?? ""));
  return option === undefined ? "Correct what the message names." : `Correct the option ${option}.`;
}

function lastWords({ code, details }: SmolVMError): string[] {
  if (code !== "BOOT_FAILED" && code !== "BOOT_TIMEOUT") return [];
  return [
    ...section("end of the serial console", details["serialTail"]),
    ...section("messages of the VMM", details["vmmStderr"]),
  ];
}

function section(title: string, text: unknown): string[] {
  if (typeof text !== "string" || text.trim() === "") return [];
  return [`--- ${title} ---`, text.trimEnd()];
}

function causes(error: Error): string[] {
  return error.cause instanceof Error ? [`caused by: ${error.cause.stack}`, ...causes(error.cause)] : [];
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*\n\s*/g, " ");
}
