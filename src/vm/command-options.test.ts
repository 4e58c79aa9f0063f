import { describe, expect, test } from "vitest";
import { type CommandOptions, checkArgv, checkCommandOptions, checkShellLine } from "./command-options.js";

const MIB = 1024 * 1024;

function refusal(options: unknown): { message: string; details: Record<string, unknown> } {
  try {
    checkCommandOptions(options as CommandOptions);
  } catch (error) {
    expect(error).toMatchObject({ code: "INVALID_CONFIG" });
    return error as never;
  }
  return expect.unreachable(`accepted: ${String(options)}`);
}

async function* nothing() {}

const OPTIONS: Record<string, { readonly good: readonly unknown[]; readonly bad: readonly unknown[] }> = {
  cwd: { good: ["/", "/a b"], bad: ["", "a", "./a", "/a\0b", 5] },
  env: { good: [{}, { "a.b-c": "" }], bad: [[], "A=1", 5] },
  user: { good: ["root", "0"], bad: ["", "a\0b", 0] },
  stdin: {
    good: ["", "text", Buffer.from("x"), new Uint8Array(2), nothing()],
    bad: [5, {}, ["text"], true, new ArrayBuffer(2)],
  },
  timeoutMs: {
    good: [1, 2 ** 40, Number.POSITIVE_INFINITY],
    bad: [0, -1, 1.5, Number.NaN, Number.NEGATIVE_INFINITY, "5"],
  },
  signal: { good: [new AbortController().signal], bad: [{}, "signal", new AbortController()] },
  maxOutputBytes: { good: [1, 256 * MIB], bad: [0, 256 * MIB + 1, 1.5, "10", Number.POSITIVE_INFINITY] },
  check: { good: [true, false], bad: ["true", 1] },
  orphans: { good: ["kill", "keep"], bad: ["", "Kill", true] },
  onOutput: { good: [() => {}, async () => {}], bad: [{}, "log"] },
};

test("nothing given means the defaults", () => {
  expect(checkCommandOptions()).toEqual({ timeoutMs: 600_000, maxOutputBytes: 10 * MIB });
  expect(checkCommandOptions({ timeoutMs: undefined })).toEqual({ timeoutMs: 600_000, maxOutputBytes: 10 * MIB });
});

describe.each(Object.entries(OPTIONS))("%s", (option, { good, bad }) => {
  test("accepts both edges, as they are", () => {
    for (const value of good) {
      expect(checkCommandOptions({ [option]: value })[option as keyof CommandOptions]).toBe(value);
    }
  });

  test("refuses what is beyond them, by name and in words", () => {
    for (const value of [...bad, null]) {
      const { details } = refusal({ [option]: value });
      expect([value, details["field"]]).toEqual([value, option]);
      expect(details["expected"]).not.toMatch(/invalid|received|too (small|big)|undefined/i);
    }
  });
});

test.each([[null], [5], ["text"], [[]]])("%j are no options", (options) => {
  expect(refusal(options).details["field"]).toBe("options");
});

test("an option that there is not is named, its value not shown", () => {
  const error = refusal({ envVars: { A: "s3cr3t" } });
  expect(error.details["field"]).toBe("envVars");
  expect(error.message).not.toContain("s3cr3t");
});

test.each([
  [{ "A=s3cr3t": "" }, "env"],
  [{ "": "s3cr3t" }, "env"],
  [{ "a\ns3cr3t": "" }, "env"],
  [{ A: "s3cr3t\0" }, "env.A"],
  [{ A: { b: "s3cr3t" } }, "env.A"],
])("the environment's values are never shown: %#", (env, field) => {
  const error = refusal({ env });
  expect(error.details["field"]).toBe(field);
  expect(JSON.stringify(error.details) + error.message).not.toContain("s3cr3t");
  expect(error.details["expected"]).toMatch(/^a (name|text) without/);
});

test("a program and its arguments", () => {
  for (const good of [["true"], ["echo", "", "ü", "-x"]]) expect(() => checkArgv(good)).not.toThrow();
  for (const bad of [[], [""], ["a", "b\0"], ["a", 5], "true", undefined, null, [undefined]]) {
    expect(() => checkArgv(bad as string[])).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field: "argv" }) }),
    );
  }
});

test("a shell line", () => {
  for (const good of ["true", "a\nb", " x "]) expect(() => checkShellLine(good)).not.toThrow();
  for (const bad of ["", " \n\t", "a\0", 5, undefined, null, ["true"]]) {
    expect(() => checkShellLine(bad as string)).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field: "command" }) }),
    );
  }
});
