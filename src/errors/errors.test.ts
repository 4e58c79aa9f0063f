import { describe, expect, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import { ERROR_CODES, type ErrorCode } from "./codes.js";
import { fileError } from "./file-error.js";
import { invalidConfig } from "./invalid-config.js";
import { isSmolVMError, SmolVMError } from "./smolvm-error.js";
import { abortedError, throwIfAborted, waitError } from "./wait-errors.js";

const codes = Object.entries(ERROR_CODES);

describe.each(codes)("code %s", (code, info) => {
  test("has an exit status of its class, a meaning and a hint", () => {
    expect(code).toMatch(/^[A-Z]+(_[A-Z]+)*$/);
    // 1 and 124 are a command's, 130 is SIGINT's, the rest are of sysexits.h.
    const isKnown = [1, 124, 130].includes(info.exitStatus) || (info.exitStatus >= 64 && info.exitStatus <= 78);
    expect(isKnown).toBe(true);
    expect(info.meaning).toMatch(/^[A-Z].*\.$/);
    expect(info.hint).toMatch(/^[A-Z].*\.$/);
  });

  test("gives the error what the table says", () => {
    const error = new SmolVMError(code as ErrorCode, "Cannot do it");
    expect(error).toMatchObject({
      ...{ code },
      hint: info.hint,
      retryable: info.retryable,
      exitStatus: info.exitStatus,
    });
    expect([error.name, error.message, error.details, error.cause]).toEqual([
      "SmolVMError",
      "Cannot do it",
      {},
      undefined,
    ]);
  });
});

test("the exit statuses that scripts rely on", () => {
  const statuses = Object.fromEntries(codes.map(([code, { exitStatus }]) => [code, exitStatus]));
  expect(statuses).toMatchObject({
    INVALID_CONFIG: 64,
    VM_NOT_FOUND: 66,
    HOST_UNSUPPORTED: 69,
    INTERNAL: 70,
    BUSY: 75,
    PROTOCOL_ERROR: 76,
    COMMAND_FAILED: 1,
    COMMAND_TIMEOUT: 124,
    ABORTED: 130,
  });
});

test("details, cause and a better hint are kept", () => {
  const cause = new Error("below");
  const error = new SmolVMError("BUSY", "x", { details: { a: 1 }, cause, hint: "Wait." });
  expect(error).toMatchObject({ details: { a: 1 }, cause, hint: "Wait." });
  expect("cause" in new SmolVMError("BUSY", "x")).toBe(false);
});

test("is recognised, by its code where one is given", () => {
  const error = new SmolVMError("BUSY", "x");
  expect([isSmolVMError(error), isSmolVMError(error, "BUSY"), isSmolVMError(error, "TIMEOUT")]).toEqual([
    true,
    true,
    false,
  ]);
  expect([isSmolVMError(new Error("x")), isSmolVMError(undefined), isSmolVMError({ code: "BUSY" })]).toEqual([
    false,
    false,
    false,
  ]);
});

describe("a refused value", () => {
  const circular: Record<string, unknown> = {};
  circular["self"] = circular;

  test.each([
    [undefined, "nothing"],
    [null, "null"],
    ["a", '"a"'],
    [5, "5"],
    [Number.NaN, "NaN"],
    [Number.POSITIVE_INFINITY, "Infinity"],
    [10n, "10"],
    [true, "true"],
    [{ a: [1] }, '{"a":[1]}'],
    [circular, "[object Object]"],
    [Symbol("s"), "Symbol(s)"],
    ["x".repeat(500), `"${"x".repeat(119)}...`],
  ])("%# is shown", (value, shown) => {
    const error = invalidConfig({ field: "ports[0].guest", value, expected: "a number" });
    expect(error.message).toBe(`Invalid ports[0].guest: got ${shown}, expected a number`);
    expect(error).toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "ports[0].guest", value: shown, expected: "a number" },
    });
    expect(() => JSON.stringify(error.details)).not.toThrow();
  });
});

test("a full disk has a hint of its own, other file errors the table's", () => {
  const full = fileError("Write it", "/x", Object.assign(new Error("no space"), { code: "ENOSPC" }));
  expect(full).toMatchObject({ code: "STORAGE_FAILED", details: { path: "/x", reason: "ENOSPC" } });
  expect(full.hint).toContain("disk space");
  expect(fileError("Write it", "/x", "weird")).toMatchObject({ message: 'Write it failed at "/x": weird' });
});

describe("waits that end early", () => {
  test("by the limit, with the limit", () => {
    expect(waitError("Stop", Deadline.after(5))).toMatchObject({ code: "TIMEOUT", details: { timeoutMs: 5 } });
  });

  test("by the caller, with the reason", () => {
    const reason = new Error("enough");
    const signal = AbortSignal.abort(reason);
    expect(waitError("Stop", Deadline.after(5, signal))).toMatchObject({ code: "ABORTED", cause: reason });
    expect(abortedError("Stop", undefined).code).toBe("ABORTED");
    expect(() => throwIfAborted("Stop", signal)).toThrow(expect.objectContaining({ code: "ABORTED" }));
    expect(() => throwIfAborted("Stop", undefined)).not.toThrow();
    expect(() => throwIfAborted("Stop", new AbortController().signal)).not.toThrow();
  });
});
