import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import * as requests from "./requests.js";
import { faultOf } from "./testing/check-body.js";
import { DESCRIPTION, findRequest, resolveSchema, type Schema } from "./testing/description.js";
import { RULES } from "./testing/rules.js";
import { samples } from "./testing/samples.js";
import { asSent } from "./testing/send.js";
import { fromWire, toWire } from "./wire.js";

const SAMPLES = samples("/nonexistent");
const cases = Object.entries(SAMPLES);

/** What the description has and SmolVM never sends. */
const LEFT_OUT: Readonly<Record<string, readonly string[]>> = {
  MachineConfiguration: ["cpu_template"],
  Drive: ["socket"],
  Vsock: ["vsock_id"],
  SnapshotLoadParams: ["enable_diff_snapshots", "mem_file_path"],
};

test("there is a sample of each request", () => {
  expect(Object.keys(SAMPLES).sort()).toEqual(Object.keys(requests).sort());
});

test.each(cases)("%s is described, and its body is as described", (_name, request) => {
  const sent = asSent(request);
  const found = findRequest(sent.method, sent.path);
  expect(found).toBeDefined();
  const { body, answers } = found!.described;
  expect(body === undefined).toBe(sent.body === undefined);
  if (body !== undefined) expect(faultOf(sent.body, body)).toBeUndefined();
  expect(Object.keys(answers)).toContain(request.answer === undefined ? "204" : "200");
});

test.each(cases.filter(([, request]) => request.body !== undefined))(
  "the sample of %s has all that there is, but for what is left out",
  (_name, request) => {
    const sent = asSent(request);
    expect(unusedIn(sent.body, findRequest(sent.method, sent.path)!.described.body!)).toEqual([]);
  },
);

test.each(cases.filter(([, request]) => request.body !== undefined))("the rules know %s", (_name, request) => {
  const { name } = findRequest(request.method, request.path)!;
  const known = Object.keys(RULES).some((rule) => rule === name || rule.startsWith(`${name} `));
  expect(known).toBe(true);
});

test.each(["instanceInfo InstanceInfo", "versionInfo FirecrackerVersion", "vmConfig FullVmConfiguration"])(
  "an answer's shape holds only what is described: %s",
  async (names) => {
    const [ours, theirs] = names.split(" ") as [string, string];
    const answers = await import("./answers.js");
    const shape = answers[ours as "instanceInfo"].shape;
    const described = Object.keys(DESCRIPTION.schemas[theirs]?.properties ?? {});
    const renamed = Object.keys(fromWire(Object.fromEntries(described.map((key) => [key, 1]))) as object);
    expect(Object.keys(shape).filter((key) => !renamed.includes(key))).toEqual([]);
  },
);

test("a snapshot has the time that its memory needs on a slow disk, and no other request depends on it", () => {
  const files = { snapshotPath: "/s", memFilePath: "/m" };
  expect(requests.createSnapshot(files, 128).limitMs).toBe(44_000);
  expect(requests.createSnapshot(files, 16 * 1024).limitMs).toBe(552_000);
  expect(
    requests.loadSnapshot({ snapshotPath: "/s", memBackend: { backendType: "File", backendPath: "/m" } }).limitMs,
  ).toBe(60_000);
});

test("pausing is given more time than Firecracker gives its vCPUs", () => {
  expect(requests.pauseVm().limitMs).toBeGreaterThan(30_000);
  expect(requests.resumeVm().limitMs).toBeGreaterThan(30_000);
});

test("names change, values do not", () => {
  const ours = {
    driveId: "aB_c-d",
    isRootDevice: false,
    statsPollingIntervalS: 0,
    list: [{ aB: "xY" }, 5],
    no: undefined,
  };
  expect(JSON.parse(JSON.stringify(toWire(ours)))).toEqual({
    drive_id: "aB_c-d",
    is_root_device: false,
    stats_polling_interval_s: 0,
    list: [{ a_b: "xY" }, 5],
  });
  expect(
    fromWire({ "boot-source": { kernel_image_path: "a_b", initrd_path: null }, drives: [{ io_engine: "Sync" }] }),
  ).toEqual({ bootSource: { kernelImagePath: "a_b" }, drives: [{ ioEngine: "Sync" }] });
});

test("the description is of the version that its file says, and free of prose", async () => {
  expect(DESCRIPTION.version).toBe("1.16.1");
  expect(DESCRIPTION.source).toContain("v1.16.1");
  const text = await readFile(join(import.meta.dirname, "testing/description-1.16.json"), "utf8");
  expect(text).not.toMatch(/"(description|summary)": "/);
});

/** Properties that are described and not in the value, at all depths. */
function unusedIn(value: unknown, of: Schema, place = ""): readonly string[] {
  const { name, schema } = resolveSchema(of);
  if (schema.type === "array") return unusedIn((value as unknown[])[0], schema.items ?? {}, `${place}[]`);
  if (schema.type !== "object") return [];
  return Object.entries(schema.properties ?? {}).flatMap(([key, property]) => {
    const item = (value as Record<string, unknown>)[key];
    if (LEFT_OUT[name]?.includes(key)) return item === undefined ? [] : [`${place}.${key} is sent`];
    return item === undefined ? [`${place}.${key}`] : unusedIn(item, property, `${place}.${key}`);
  });
}
