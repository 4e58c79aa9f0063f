import { expect, test } from "vitest";
import { checkCommand } from "./command-options.js";
import { checkAttachOptions, checkSpawnOptions } from "./spawn-options.js";

test("a process may run for ever, and has a pipe as stdin, unless it is said otherwise", () => {
  expect(checkSpawnOptions()).toMatchObject({ timeoutMs: Number.POSITIVE_INFINITY, stdin: undefined, pty: undefined });
  expect(checkSpawnOptions({ stdin: null, timeoutMs: 5, pty: { cols: 80, rows: 24 } })).toMatchObject({
    stdin: null,
    timeoutMs: 5,
    pty: { cols: 80, rows: 24 },
  });
});

test.each([
  ["pty.cols", { pty: { cols: 0, rows: 24 } }],
  ["pty.rows", { pty: { cols: 80, rows: 70_000 } }],
  ["pty.cols", { pty: true }],
  ["detached", { detached: "yes" }],
  ["timeoutMs", { timeoutMs: 0 }],
  ["maxOutputBytes", { maxOutputBytes: 0 }],
  ["cwd", { cwd: "relative" }],
  ["env", { env: { "A\nB": "x" } }],
  ["user", { user: "" }],
  ["stdin", { stdin: 7 }],
  ["onOutput", { onOutput: () => {} }],
  ["shell", { shell: true }],
])("option %s is refused", (field, options) => {
  expect(() => checkSpawnOptions(options as object)).toThrow(
    expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) }),
  );
});

test.each([
  ["offset", { offset: -1 }],
  ["offset", { offset: 0.5 }],
  ["offset", { offset: "0" }],
  ["timeoutMs", { timeoutMs: 0 }],
  ["maxOutputBytes", { maxOutputBytes: 0 }],
])("option %s of an attach is refused", (field, options) => {
  expect(() => checkAttachOptions(options as object)).toThrow(
    expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) }),
  );
});

test.each([
  ["command", ""],
  ["command", "  "],
  ["command", "a\0b"],
  ["argv", []],
  ["argv", [""]],
  ["argv", ["a", "b\0"]],
  ["argv", ["a", 1]],
  ["argv", 7],
])("%s is refused", (field, command) => {
  expect(() => checkCommand(command as string)).toThrow(
    expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) }),
  );
});
