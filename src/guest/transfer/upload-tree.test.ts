import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { runProgram } from "../../host/process.js";
import { FieldWriter } from "../fields.js";
import { INITIAL_CREDIT_BYTES, PREAMBLE } from "../frame.js";
import { FakeAgent } from "../testing/fake-agent.js";
import { answer, give, nextCall, takeAll } from "../testing/file-agent.js";
import { contents, scratch } from "../testing/scratch.js";
import { file } from "../testing/trees.js";
import { downloadTree } from "./download-tree.js";
import { CONTENT_HEADER_BYTES } from "./record-output.js";
import { dataRuns } from "./send-large-file.js";
import type { TransferOptions } from "./transfer.js";
import { type DecodedRecord, TreeDecoder } from "./tree-decoder.js";
import { encodeEntry } from "./tree-record.js";
import { TreeRules } from "./tree-rules.js";
import { uploadTree } from "./upload-tree.js";

/** Until an uploader that has read its file stands before the end, in milliseconds; too short and a test proves less. */
const WAY_TO_THE_END_MS = 50;

const ample = () => Deadline.after(10_000);
const code = (expected: string) => expect.objectContaining({ code: expected });

/** Uploads to a scripted guest that takes it all. */
async function upload(from: string | Uint8Array, to = "/dst", options: Partial<TransferOptions> = {}) {
  const { agent, connection } = await FakeAgent.connected();
  const uploading = uploadTree(connection, from, to, { deadline: ample(), ...options });
  uploading.catch(() => {});
  const call = await nextCall(agent);
  const bytes = await takeAll(agent, call.stream);
  answer(agent, call.stream, new FieldWriter().u64(21, entriesOf(bytes)));
  return { result: await uploading, bytes, path: call.fields.bytes(10)?.toString() };
}

/** What a guest counts: all but what was left out, and the end. */
function entriesOf(bytes: Buffer): bigint {
  const kinds = ["file", "directory", "link"];
  return BigInt([...new TreeDecoder().push(bytes)].filter(({ kind }) => kinds.includes(kind)).length);
}

function decode(bytes: Buffer): DecodedRecord[] {
  const rules = new TreeRules({ contentBytes: Number.POSITIVE_INFINITY });
  const decoder = new TreeDecoder();
  const records = [...decoder.push(bytes)];
  for (const record of records) rules.check(record);
  expect(decoder.isComplete).toBe(true);
  return records;
}

const paths = (records: readonly DecodedRecord[]) =>
  records.map((record) => ("path" in record ? `${record.kind} ${record.path}` : record.kind));

test("sends a tree in order, and leaves out what is no file and what leads outside", async () => {
  const root = join(scratch(), "tree");
  mkdirSync(join(root, "d/e"), { recursive: true });
  writeFileSync(join(root, "a"), "abc", { mode: 0o640 });
  writeFileSync(join(root, "d/empty"), "");
  symlinkSync("../a", join(root, "d/in"));
  for (const [name, target] of [
    ["abs", "/etc/passwd"],
    ["out", "../x"],
    ["odd", "d/../a"],
  ])
    symlinkSync(target as string, join(root, name as string));
  await runProgram(["mkfifo", join(root, "pipe")]);
  utimesSync(join(root, "a"), 1, 1_600_000_000.5);
  const seen: number[] = [];
  const { result, bytes, path } = await upload(root, "/dst", { onProgress: (progress) => seen.push(progress.entries) });
  expect(path).toBe("/dst");
  const records = decode(bytes);
  expect(paths(records)).toEqual([
    ...["directory ", "file a", "content", "leftOut abs", "directory d", "directory d/e", "file d/empty", "link d/in"],
    ...["leftOut odd", "leftOut out", "leftOut pipe", "end"],
  ]);
  expect(records[1]).toEqual({
    kind: "file",
    path: "a",
    mode: 0o640,
    mtimeNs: 1_600_000_000_500_000_000n,
    sizeBytes: 3,
  });
  expect(records[7]).toMatchObject({ target: "../a" });
  expect(result).toEqual({
    ...{ files: 2, directories: 3, links: 1, bytes: 3 },
    skipped: [
      ...["abs", "odd", "out"].map((one) => ({ path: one, reason: "outside" })),
      { path: "pipe", reason: "pipe" },
    ],
  });
  expect(seen.at(-1)).toBe(6);
});

test("what is uploaded can be downloaded again, byte for byte", async () => {
  const root = scratch();
  const source = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff])]);
  mkdirSync(source);
  const at = (name: string) => Buffer.concat([source, Buffer.from(`/${name}`)]);
  for (let index = 0; index < 150; index += 1) writeFileSync(at(`f${index}`), "x".repeat(index * 37));
  writeFileSync(Buffer.concat([source, Buffer.from([0x2f, 0xfe])]), "name");
  mkdirSync(at("d"));
  const large = Buffer.alloc(700_001, "large file ");
  PREAMBLE.copy(large, 32_760); // Across where a frame ends.
  writeFileSync(at("d/large"), large);
  symlinkSync("large", at("d/l"));
  chmodSync(at("d"), 0o500);
  const { bytes, result } = await upload(source);
  const { agent, connection } = await FakeAgent.connected();
  const downloading = downloadTree(connection, "/x", join(root, "copy"), { deadline: ample() });
  const call = await nextCall(agent);
  await give(agent, call.stream, bytes, 50_000);
  answer(agent, call.stream);
  expect(await downloading).toEqual(result);
  // Arguments of a program need not be UTF-8 for a shell's pattern, but for Node.js.
  await runProgram(["sh", "-c", 'diff -r --no-dereference "$1"/copy "$1"/?', "sh", root]);
  for (const path of [at("d"), join(root, "copy/d")]) chmodSync(path, 0o700); // To be removed without root's rights.
});

test("holes are not sent", async () => {
  const path = join(scratch(), "sparse");
  writeFileSync(path, "begin");
  truncateSync(path, 3_000_000);
  const file = openSync(path, "r+");
  writeSync(file, "middle", 1_500_000);
  closeSync(file);
  const { bytes, result } = await upload(path);
  expect(bytes.length).toBeLessThan(20_000);
  expect(result.bytes).toBe(3_000_000);
  const content = Buffer.alloc(3_000_000);
  for (const record of decode(bytes)) if (record.kind === "content") record.data.copy(content, record.offset);
  expect([content.toString("latin1", 0, 5), content.toString("latin1", 1_500_000, 1_500_006)]).toEqual([
    "begin",
    "middle",
  ]);
});

test("the parts of data that are not zero are found by block", () => {
  const data = Buffer.alloc(5 * 4096 + 10);
  expect([...dataRuns(data)]).toEqual([]);
  data[4096] = 1;
  data[3 * 4096 - 1] = 1;
  expect([...dataRuns(data)]).toEqual([{ from: 4096, to: 3 * 4096 }]);
  data[5 * 4096 + 9] = 1;
  expect([...dataRuns(data)].at(-1)).toEqual({ from: 5 * 4096, to: data.length });
});

test("goes exactly there, or with a slash into it under its own name; a link is followed", async () => {
  const root = scratch();
  writeFileSync(join(root, "file"), "abc");
  symlinkSync("file", join(root, "link"));
  for (const [from, to, expected] of [
    ["file", "/a/b", "/a/b"],
    ["file", "/a/", "/a/file"],
    ["link", "/a/", "/a/link"],
    ["link", "/", "/link"],
  ]) {
    const { path, bytes } = await upload(join(root, from as string), to);
    expect([path, paths(decode(bytes))]).toEqual([expected, ["file ", "content", "end"]]);
  }
});

test.each([0n, 2n, undefined])("a guest that says it took %s entries of one has not taken the tree", async (count) => {
  const path = join(scratch(), "file");
  writeFileSync(path, "abc");
  const { agent, connection } = await FakeAgent.connected();
  const uploading = uploadTree(connection, path, "/dst", { deadline: ample() });
  uploading.catch(() => {});
  const call = await nextCall(agent);
  await takeAll(agent, call.stream);
  answer(agent, call.stream, new FieldWriter().u64(21, count));
  await expect(uploading).rejects.toThrow(code("TRANSFER_FAILED"));
});

test("a guest that answers before the end has not taken the tree", async () => {
  const path = join(scratch(), "large");
  writeFileSync(path, Buffer.alloc(2_000_000, 1));
  const { agent, connection } = await FakeAgent.connected();
  const uploading = uploadTree(connection, path, "/dst", { deadline: ample() });
  uploading.catch(() => {});
  const call = await nextCall(agent);
  await agent.next("data");
  answer(agent, call.stream, new FieldWriter().u64(21, 1n));
  await expect(uploading).rejects.toThrow(code("TRANSFER_FAILED"));
});

test("a guest that answers while the end record waits for its credit has not taken the tree", async () => {
  const path = join(scratch(), "large");
  const headerBytes = encodeEntry(file("", 0)).length + CONTENT_HEADER_BYTES;
  writeFileSync(path, Buffer.alloc(INITIAL_CREDIT_BYTES - headerBytes, 1));
  const { agent, connection } = await FakeAgent.connected();
  const uploading = uploadTree(connection, path, "/dst", { deadline: ample() });
  uploading.catch(() => {});
  const call = await nextCall(agent);
  for (let takenBytes = 0; takenBytes < INITIAL_CREDIT_BYTES; ) takenBytes += (await agent.next("data")).payload.length;
  await setTimeout(WAY_TO_THE_END_MS);
  answer(agent, call.stream, new FieldWriter().u64(21, 1n));
  await expect(uploading).rejects.toThrow(code("TRANSFER_FAILED"));
});

test("does not follow what became a link", async () => {
  const root = scratch();
  mkdirSync(join(root, "tree"));
  writeFileSync(join(root, "secret"), "secret");
  linkSync(join(root, "secret"), join(root, "tree/hard"));
  symlinkSync("../secret", join(root, "tree/soft"));
  expect(contents(root)["tree/soft"]).toBe("-> ../secret");
  const { result } = await upload(join(root, "tree"));
  expect(result).toMatchObject({ files: 1, skipped: [{ path: "soft", reason: "outside" }] });
});

test.each([
  ["EISDIR", "EISDIR"],
  ["ENOSPC", "ENOSPC"],
  ["EBADMSG", "TRANSFER_FAILED"],
  ["EODD", "EIO"],
])("a guest's %s in the middle is %s", async (errno, expected) => {
  const path = join(scratch(), "large");
  writeFileSync(path, Buffer.alloc(2_000_000, 1));
  const { agent, connection } = await FakeAgent.connected();
  const uploading = uploadTree(connection, path, "/dst", { deadline: ample() });
  uploading.catch(() => {});
  const call = await nextCall(agent);
  await agent.next("data");
  agent.failed(call.stream, errno, "no");
  await expect(uploading).rejects.toThrow(code(expected));
});

test.each(["abort", "timeout"])("an %s cancels it", async (how) => {
  const path = join(scratch(), "large");
  writeFileSync(path, Buffer.alloc(2_000_000, 1));
  const { agent, connection } = await FakeAgent.connected();
  const controller = new AbortController();
  const deadline = Deadline.after(how === "timeout" ? 80 : 10_000, controller.signal);
  const uploading = uploadTree(connection, path, "/dst", { deadline });
  uploading.catch(() => {});
  const call = await nextCall(agent);
  await agent.next("data");
  if (how === "abort") controller.abort();
  await agent.next("kill");
  agent.failed(call.stream, "ECANCELED", "cancelled");
  await expect(uploading).rejects.toThrow(code(how === "abort" ? "ABORTED" : "TIMEOUT"));
});

test("what cannot be uploaded is refused, in the host's name", async () => {
  const root = scratch();
  const { agent, connection } = await FakeAgent.connected();
  const ask = (from: string, to = "/dst") => uploadTree(connection, from, to, { deadline: ample() });
  await expect(ask(join(root, "missing"))).rejects.toMatchObject({ code: "ENOENT", details: { side: "host" } });
  await expect(ask("")).rejects.toThrow(code("INVALID_CONFIG"));
  await expect(ask(root, "relative")).rejects.toThrow(code("INVALID_CONFIG"));
  expect(agent.all("call")).toEqual([]);
  await runProgram(["mkfifo", join(root, "pipe")]);
  const refused = ask(join(root, "pipe"));
  refused.catch(() => {});
  const call = await nextCall(agent);
  await agent.next("kill");
  agent.failed(call.stream, "ECANCELED", "cancelled");
  await expect(refused).rejects.toMatchObject({ code: "EINVAL", details: { side: "host" } });
});

test("a directory that cannot be listed ends it, in the guest too", async () => {
  const root = join(scratch(), "tree");
  mkdirSync(join(root, Array.from({ length: 600 }, () => "d").join("/")), { recursive: true });
  const { agent, connection } = await FakeAgent.connected();
  const uploading = uploadTree(connection, root, "/dst", { deadline: ample() });
  uploading.catch(() => {});
  const call = await nextCall(agent);
  await agent.next("kill");
  agent.failed(call.stream, "ECANCELED", "cancelled");
  await expect(uploading).rejects.toMatchObject({ code: "ENAMETOOLONG", details: { side: "host" } });
});
