import { expect, test } from "vitest";
import { checkWaitOptions } from "./check-wait-options.js";

test.each([
  undefined,
  {},
  { timeoutMs: undefined, signal: undefined },
  { timeoutMs: 1 },
  { timeoutMs: 2 ** 40 },
  { timeoutMs: Number.POSITIVE_INFINITY, signal: new AbortController().signal },
  { signal: AbortSignal.abort() },
  { onProgress: () => {} },
])("accepts %o", (options) => {
  expect(() => checkWaitOptions(options as never)).not.toThrow();
});

test.each([
  ["timeoutMs", { timeoutMs: Number.NaN }],
  ["timeoutMs", { timeoutMs: 0 }],
  ["timeoutMs", { timeoutMs: -1 }],
  ["timeoutMs", { timeoutMs: 1.5 }],
  ["timeoutMs", { timeoutMs: Number.NEGATIVE_INFINITY }],
  ["timeoutMs", { timeoutMs: "1000" }],
  ["timeoutMs", { timeoutMs: null }],
  ["timeoutMs", { timeoutMs: 1000n }],
  ["signal", { signal: {} }],
  ["signal", { signal: null }],
  ["signal", { signal: new AbortController() }],
  ["options", null],
  ["options", 5],
])("refuses %s of %o", (field, options) => {
  expect(() => checkWaitOptions(options as never)).toThrow(
    expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) }),
  );
});
