import { expect, test } from "vitest";
import { FakeAgent } from "../testing/fake-agent.js";
import { checkOptions } from "./check-options.js";
import { GuestFiles } from "./guest-files.js";

/** Every method of `vm.fs` with these options. */
const METHODS: Readonly<Record<string, (files: GuestFiles, options: never) => unknown>> = {
  readFile: (files, options) => files.readFile("/a", options),
  writeFile: (files, options) => files.writeFile("/a", "", options),
  appendFile: (files, options) => files.appendFile("/a", "", options),
  mkdir: (files, options) => files.mkdir("/a", options),
  readdir: (files, options) => files.readdir("/a", options),
  stat: (files, options) => files.stat("/a", options),
  lstat: (files, options) => files.lstat("/a", options),
  rm: (files, options) => files.rm("/a", options),
  rename: (files, options) => files.rename("/a", "/b", options),
  chmod: (files, options) => files.chmod("/a", 0o644, options),
  symlink: (files, options) => files.symlink("a", "/b", options),
  readlink: (files, options) => files.readlink("/a", options),
  access: (files, options) => files.access("/a", 0, options),
  utimes: (files, options) => files.utimes("/a", 0, 0, options),
  createReadStream: (files, options) => files.createReadStream("/a", options),
  createWriteStream: (files, options) => files.createWriteStream("/a", options),
};

/** How a method, which may be a stream's, fails with these options. */
async function refusal(name: string, options: unknown) {
  const { agent, connection } = await FakeAgent.connected();
  const files = new GuestFiles(async () => connection);
  const ask = async () => METHODS[name]?.(files, options as never);
  // Where nothing is refused, the call would wait for an answer.
  const error = await Promise.race([ask().catch((one: unknown) => one), agent.next("call")]);
  expect(agent.all("call")).toEqual([]);
  connection.close();
  return error;
}

const invalid = (field: string) => ({
  code: "INVALID_CONFIG",
  details: { field, value: expect.any(String), expected: expect.any(String) },
});

test("every method is tried here", () => {
  const names = Object.getOwnPropertyNames(GuestFiles.prototype).filter((name) => name !== "constructor");
  expect(Object.keys(METHODS).sort()).toEqual(names.sort());
});

test.each(Object.keys(METHODS))("%s refuses what it does not know, before the guest hears of it", async (name) => {
  expect(await refusal(name, { bogus: 1 })).toMatchObject(invalid("bogus"));
  expect(await refusal(name, { bogus: undefined })).toMatchObject(invalid("bogus"));
  expect(await refusal(name, { timeoutMs: "1" })).toMatchObject(invalid("timeoutMs"));
  expect(await refusal(name, { signal: {} })).toMatchObject(invalid("signal"));
  for (const options of [[], true, () => {}]) expect(await refusal(name, options)).toMatchObject(invalid("options"));
});

test.each([
  ["readFile", { encoding: 5 }],
  ["readFile", { maxBytes: "5" }],
  ["readFile", { flag: "r" }],
  ["writeFile", { mode: true }],
  ["writeFile", { flag: null }],
  ["writeFile", { flag: ["w"] }],
  ["writeFile", { encoding: "buffer" }],
  ["writeFile", { flags: "a" }],
  ["appendFile", { flag: 1 }],
  ["appendFile", { mode: null }],
  ["mkdir", { recursive: "yes" }],
  ["mkdir", { mode: {} }],
  ["readdir", { recursive: 1 }],
  ["readdir", { withFileTypes: "no" }],
  ["readdir", { encoding: {} }],
  ["rm", { recursive: "yes" }],
  ["rm", { force: null }],
  ["rm", { maxRetries: 3 }],
  ["stat", { bigint: true }],
  ["readlink", { encoding: false }],
  ["createReadStream", { end: "9" }],
  ["createReadStream", { highWaterMark: Number.POSITIVE_INFINITY }],
  ["createReadStream", { flags: "r" }],
  ["createWriteStream", { flags: "r" }],
  ["createWriteStream", { start: 1n }],
  ["createWriteStream", { mode: "9" }],
  ["createWriteStream", { end: 5 }],
] as const)("%s refuses %o", async (name, options) => {
  const [field] = Object.keys(options);
  expect(await refusal(name, options)).toMatchObject(invalid(field as string));
});

test("an option that comes from a prototype is checked as well, as it would be used", async () => {
  expect(await refusal("rm", Object.create({ recursive: "yes" }))).toMatchObject(invalid("recursive"));
});

test("what is not known is not shown", async () => {
  expect(await refusal("stat", { data: "secret" })).toMatchObject({ details: { value: '"(hidden)"' } });
});

test("takes all that the methods have, and what stands for them", () => {
  const wait = { signal: new AbortController().signal, timeoutMs: Number.POSITIVE_INFINITY };
  for (const [method, options] of [
    ["readFile", { ...wait, encoding: null, maxBytes: 0 }],
    ["writeFile", { ...wait, encoding: "hex", mode: "644", flag: "wx" }],
    ["mkdir", { ...wait, recursive: false, mode: undefined }],
    ["readdir", { ...wait, encoding: "buffer", recursive: true, withFileTypes: true }],
    ["rm", { ...wait, recursive: true, force: undefined }],
    ["rename", wait],
    ["createReadStream", { ...wait, start: 1, end: Number.POSITIVE_INFINITY, highWaterMark: 0, encoding: "utf8" }],
    ["createWriteStream", { ...wait, start: 1, flags: "r+", mode: 0, highWaterMark: 1, encoding: "utf8" }],
  ] as const) {
    expect(checkOptions(method, options as never)).toEqual(options);
  }
  expect(checkOptions("readFile", "utf8")).toEqual({ encoding: "utf8" });
  expect(checkOptions("readdir", "buffer" as never)).toEqual({ encoding: "buffer" });
  expect(checkOptions("mkdir", 0o700)).toEqual({ mode: 0o700 });
  expect(checkOptions("mkdir", "700")).toEqual({ mode: "700" });
  for (const nothing of [null, undefined]) expect(checkOptions("readFile", nothing)).toEqual({});
  expect(checkOptions("stat", undefined)).toEqual({});
});

test.each([
  ["readFile", 5, "options"],
  ["readFile", "klingon", "encoding"],
  ["mkdir", "9", "mode"],
  ["stat", "utf8", "options"],
  ["rm", null, "options"],
])("%s refuses %o alone", async (name, options, field) => {
  expect(await refusal(name, options)).toMatchObject(invalid(field));
});
