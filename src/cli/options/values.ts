// Values of options, from text.

import { invalidConfig } from "../../errors/invalid-config.js";

/** A reader of whole numbers for one option. @throws {INVALID_CONFIG} */
export function wholeNumber(option: string): (text: string) => number {
  return (text) => {
    if (/^\d{1,15}$/.test(text)) return Number(text);
    throw invalidConfig({ field: option, value: text, expected: "a whole number" });
  };
}

/** Longest timeout of a timer of Node.js, in milliseconds. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** Seconds, with a fraction if need be, as milliseconds. @throws {INVALID_CONFIG} */
export function secondsAsMs(option: string): (text: string) => number {
  return (text) => {
    const ms = /^\d+(\.\d+)?$/.test(text) ? Math.round(Number(text) * 1000) : 0;
    if (ms >= 1 && ms <= LONGEST_TIMEOUT_MS) return ms;
    throw invalidConfig({ field: option, value: text, expected: "seconds above 0, at most 2147483" });
  };
}
