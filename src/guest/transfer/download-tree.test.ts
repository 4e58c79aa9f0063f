import { chmodSync, lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { runProgram } from "../../host/process.js";
import { FieldWriter } from "../fields.js";
import { FakeAgent } from "../testing/fake-agent.js";
import { answer, give, nextCall } from "../testing/file-agent.js";
import { contents, scratch } from "../testing/scratch.js";
import { directory, encodeParts, encodeTree, file, leftOut, link, MTIME_NS, type TreePart } from "../testing/trees.js";
import { downloadTree } from "./download-tree.js";
import type { DownloadOptions } from "./transfer.js";
import { encodeEnd } from "./tree-record.js";

const ample = () => Deadline.after(10_000);
const code = (expected: string) => expect.objectContaining({ code: expected });

/** Downloads what the scripted guest sends. */
async function download(
  bytes: Buffer,
  to: string | Uint8Array,
  options: Partial<DownloadOptions> & { readonly pieceBytes?: number; readonly from?: string } = {},
) {
  const { agent, connection } = await FakeAgent.connected();
  const downloading = downloadTree(connection, options.from ?? "/src/name", to, { deadline: ample(), ...options });
  downloading.catch(() => {});
  void serve(agent, bytes, options.pieceBytes).catch(() => {});
  return downloading;
}

async function serve(agent: FakeAgent, bytes: Buffer, pieceBytes?: number): Promise<void> {
  const call = await nextCall(agent);
  void agent.next("kill").then(() => agent.failed(call.stream, "ECANCELED", "cancelled"));
  await give(agent, call.stream, bytes, pieceBytes);
  if (agent.all("kill").length === 0) answer(agent, call.stream);
}

const TREE: readonly TreePart[] = [
  directory("", 0o750),
  file("a", 3, 0o640),
  [0, "abc"],
  directory("d", 0o711),
  file("d/sparse", 100_000, 0o600),
  [50_000, "x"],
  link("d/up", "../a"),
  directory("d/e", 0o755),
  file("late", 0, 0o444),
  leftOut("socket", 12),
  leftOut("away", 10),
];

test.each([65_536, 1_000, 7])("makes what the guest sends, in pieces of %i bytes", async (pieceBytes) => {
  const root = scratch();
  const seen: number[] = [];
  const result = await download(encodeTree(TREE), join(root, "out"), {
    pieceBytes,
    onProgress: ({ entries }) => seen.push(entries),
  });
  expect(result).toEqual({
    files: 3,
    directories: 3,
    links: 1,
    bytes: 100_003,
    skipped: [
      { path: "socket", reason: "socket" },
      { path: "away", reason: "outside" },
    ],
  });
  const sparse = `${"\0".repeat(50_000)}x${"\0".repeat(49_999)}`;
  expect(contents(root)).toEqual({
    out: "/",
    "out/a": "abc",
    "out/d": "/",
    "out/d/e": "/",
    "out/d/sparse": sparse,
    "out/d/up": "-> ../a",
    "out/late": "",
  });
  for (const [path, mode] of [
    ["", 0o750],
    ["a", 0o640],
    ["d", 0o711],
    ["d/sparse", 0o600],
    ["d/e", 0o755],
    ["late", 0o444],
  ] as const) {
    expect([path, lstatSync(join(root, "out", path)).mode & 0o7777]).toEqual([path, mode]);
  }
  for (const path of ["", "a", "d", "d/sparse", "d/up", "d/e", "late"]) {
    const { mtimeNs } = lstatSync(join(root, "out", path), { bigint: true });
    // Node.js gives a time to the kernel as a double of seconds.
    expect(Number(mtimeNs - MTIME_NS)).toBeLessThan(1000);
  }
  expect(statSync(join(root, "out/d/sparse")).blocks * 512).toBeLessThan(100_000);
  expect(seen.at(-1)).toBe(7);
});

test("keeps the umask out of it", async () => {
  const root = scratch();
  const before = process.umask(0o077);
  try {
    await download(encodeTree([directory("", 0o777), file("a", 0, 0o666)]), join(root, "out"));
  } finally {
    process.umask(before);
  }
  expect([statSync(join(root, "out")).mode & 0o777, statSync(join(root, "out/a")).mode & 0o777]).toEqual([
    0o777, 0o666,
  ]);
});

test("keeps names that are not UTF-8", async () => {
  const root = scratch();
  await download(
    encodeTree([directory(""), file("\xff\xfe", 1), [0, "x"]]),
    Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xfd])]),
  );
  expect(readFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xfd, 0x2f, 0xff, 0xfe])]), "utf8")).toBe(
    "x",
  );
});

test("a file goes exactly there, or with a slash into it under its own name, and parents are made", async () => {
  const root = scratch();
  const bytes = encodeTree([file("", 3, 0o600), [0, "abc"]]);
  await download(bytes, join(root, "x/y"));
  await download(bytes, `${root}/x/z/`);
  expect(contents(root)).toEqual({ x: "/", "x/y": "abc", "x/z": "/", "x/z/name": "abc" });
  await download(encodeTree([file("", 1), [0, "n"]]), join(root, "x/y"));
  expect(contents(root)["x/y"]).toBe("n");
});

test("many files are all there", async () => {
  const root = scratch();
  const parts: TreePart[] = [directory("")];
  for (let index = 0; index < 300; index += 1) {
    if (index % 50 === 0) parts.push(directory(`d${index / 50}`));
    parts.push(file(`d${index % 50 === 0 ? index / 50 : 0}/f${index}`, 4096), [0, Buffer.alloc(4096, index)]);
  }
  const result = await download(encodeTree(parts), join(root, "out"));
  expect(result).toMatchObject({ files: 300, directories: 7, bytes: 300 * 4096 });
  expect(readFileSync(join(root, "out/d0/f299")).equals(Buffer.alloc(4096, 299))).toBe(true);
  expect(Object.keys(contents(root)).length).toBe(307);
});

test("directories are joined, files and links replaced, and the rest is left alone", async () => {
  const root = scratch();
  mkdirSync(join(root, "out/d"), { recursive: true });
  chmodSync(join(root, "out/d"), 0o705);
  for (const name of ["a", "other", "d/other"]) writeFileSync(join(root, "out", name), "old");
  symlinkSync("other", join(root, "out/l"));
  writeFileSync(join(root, "out/m"), "old");
  const parts = [
    directory(""),
    file("a", 3),
    [0, "new"],
    directory("d", 0o700),
    file("d/new", 0),
    directory("e"),
    file("e/x", 0),
  ] as const;
  await download(encodeTree([...parts, file("l", 1), [0, "l"], link("m", "a")]), join(root, "out"));
  expect(contents(join(root, "out"))).toEqual({
    ...{ a: "new", other: "old", d: "/", "d/new": "", "d/other": "old", e: "/", "e/x": "", l: "l", m: "-> a" },
  });
  expect(statSync(join(root, "out/d")).mode & 0o777).toBe(0o705);
});

test("directories that their owner may not write to come in whole, also into an existing one", async () => {
  const root = scratch();
  const parts = [
    directory("", 0o500),
    directory("r", 0o500),
    file("r/x", 1, 0o400),
    [0, "x"],
    directory("r/none", 0),
  ] as const;
  await download(encodeTree(parts), join(root, "fresh"));
  mkdirSync(join(root, "there"), 0o700);
  await download(encodeTree(parts), join(root, "there"));
  const mode = (path: string) => lstatSync(join(root, path)).mode & 0o777;
  expect(["fresh", "fresh/r", "fresh/r/x", "fresh/r/none"].map(mode)).toEqual([0o500, 0o500, 0o400, 0]);
  expect(["there", "there/r", "there/r/x", "there/r/none"].map(mode)).toEqual([0o700, 0o500, 0o400, 0]);
  for (const path of ["fresh", "fresh/r", "fresh/r/none", "there/r", "there/r/none"])
    chmodSync(join(root, path), 0o700);
});

describe("a link at the path itself is followed", () => {
  test.each([
    ["relative", "../b", "/src/../b"],
    ["absolute", "/b", "/b"],
  ])("when it is %s", async (_, target, path) => {
    const root = scratch();
    const { agent, connection } = await FakeAgent.connected();
    const downloading = downloadTree(connection, "/src/name", join(root, "out"), { deadline: ample() });
    const first = await nextCall(agent);
    agent.stdout(first.stream, target.startsWith("/") ? encodeTree([leftOut("", 10)]) : encodeParts([link("", "b")]));
    await agent.next("kill");
    agent.failed(first.stream, "ECANCELED", "cancelled");
    const second = await nextCall(agent);
    expect([second.operation, second.fields.bytes(10)?.toString()]).toEqual(["fs.readlink", "/src/name"]);
    answer(agent, second.stream, new FieldWriter().text(16, target));
    const third = await nextCall(agent);
    expect([third.operation, third.fields.bytes(10)?.toString()]).toEqual(["fs.send", path]);
    agent.stdout(third.stream, encodeTree([file("", 1), [0, "x"]]));
    answer(agent, third.stream);
    expect(await downloading).toMatchObject({ files: 1, links: 0 });
    expect(contents(root)).toEqual({ out: "x" });
  });

  test("but not for ever", async () => {
    const root = scratch();
    const { agent, connection } = await FakeAgent.connected();
    const downloading = downloadTree(connection, "/l", join(root, "out"), { deadline: ample() });
    downloading.catch(() => {});
    const circle = async () => {
      for (let hops = 0; hops <= 40; hops += 1) {
        const send = await nextCall(agent);
        agent.stdout(send.stream, encodeParts([link("", "l")]));
        await agent.next("kill");
        agent.failed(send.stream, "ECANCELED", "cancelled");
        answer(agent, (await nextCall(agent)).stream, new FieldWriter().text(16, "l"));
      }
    };
    await circle();
    await expect(downloading).rejects.toMatchObject({ code: "ELOOP", path: "/l" });
    expect(contents(root)).toEqual({});
  });
});

describe("leaves nothing, and changes nothing", () => {
  const good = [directory(""), file("a", 3), [0, "abc"], directory("d", 0o555), link("d/l", "../a")] as const;
  const hostile: [string, Buffer][] = [
    ["that ends early", encodeParts(good)],
    ["that ends in the middle of a file", encodeParts([directory(""), file("a", 9), [0, "abc"]]).subarray(0, -1)],
    ["that says nothing", Buffer.alloc(0)],
    ["whose end counts wrong", Buffer.concat([encodeParts(good), encodeEnd(9)])],
    ["with something after its end", Buffer.concat([encodeTree(good), Buffer.from([1])])],
    ["that climbs out", encodeTree([...good, file("../evil", 0)])],
    ["with an absolute path", encodeTree([...good, file("/tmp/evil", 0)])],
    ["that writes through its own link", encodeTree([...good, link("e", "d"), file("e/x", 0)])],
    ["that replaces its own directory by a link", encodeTree([...good, link("d", "a")])],
    ["with a link that leads outside", encodeTree([...good, link("x", "../../etc")])],
    ["with a name twice", encodeTree([...good, file("a", 0)])],
    ["with more content than promised", encodeTree([...good, file("b", 1), [0, "ab"]])],
    ["with an endless record", Buffer.concat([encodeParts(good), Buffer.from([2, 0xff, 0xff, 0xff, 0xff])])],
    ["that is too deep", encodeTree(deep(600))],
  ];

  test.each(hostile)("of a tree %s", async (_, bytes) => {
    const root = scratch();
    await expect(download(bytes, join(root, "p/q/out"))).rejects.toThrow(code("TRANSFER_FAILED"));
    expect(contents(root)).toEqual({});
    mkdirSync(join(root, "there/d"), { recursive: true });
    writeFileSync(join(root, "there/a"), "old");
    const before = contents(root);
    await expect(download(bytes, join(root, "there"))).rejects.toThrow(code("TRANSFER_FAILED"));
    expect(contents(root)).toEqual(before);
  });

  test("of a tree with too much content", async () => {
    const root = scratch();
    const bytes = encodeTree([directory(""), file("a", 3), [0, "abc"]]);
    await expect(download(bytes, join(root, "out"), { maxBytes: 2 })).rejects.toThrow(code("TRANSFER_FAILED"));
    expect(contents(root)).toEqual({});
  });

  test("when the guest refuses, at once or in the middle", async () => {
    const root = scratch();
    for (const before of [Buffer.alloc(0), encodeParts(good)]) {
      const { agent, connection } = await FakeAgent.connected();
      const downloading = downloadTree(connection, "/src", join(root, "p/out"), { deadline: ample() });
      downloading.catch(() => {});
      const call = await nextCall(agent);
      if (before.length > 0) agent.stdout(call.stream, before);
      agent.failed(call.stream, "EACCES", "no");
      await expect(downloading).rejects.toMatchObject({ code: "EACCES", path: "/src", syscall: "download" });
      expect(contents(root)).toEqual({});
    }
  });

  test.each(["abort", "timeout", "end of the connection"])("after an %s", async (how) => {
    const root = scratch();
    const { agent, connection } = await FakeAgent.connected();
    const controller = new AbortController();
    const deadline = Deadline.after(how === "timeout" ? 80 : 10_000, controller.signal);
    const downloading = downloadTree(connection, "/src", join(root, "p/out"), { deadline });
    downloading.catch(() => {});
    const call = await nextCall(agent);
    agent.stdout(call.stream, encodeParts([...good, file("big", 100_000), [0, Buffer.alloc(40_000)]]));
    if (how === "abort") controller.abort();
    if (how === "end of the connection") agent.vanish();
    else {
      await agent.next("kill");
      agent.stdout(call.stream, encodeParts([file("late", 0)]));
      agent.failed(call.stream, "ECANCELED", "cancelled");
    }
    const expected = { abort: "ABORTED", timeout: "TIMEOUT" }[how] ?? "CHANNEL_CLOSED";
    await expect(downloading).rejects.toThrow(code(expected));
    expect(contents(root)).toEqual({});
  });

  const conflicts: [string, (out: string) => unknown, readonly TreePart[], string][] = [
    ["a file onto a directory", (out) => mkdirSync(out), [file("", 0)], "EISDIR"],
    ["a directory onto a file", (out) => writeFileSync(out, "old"), [directory("")], "ENOTDIR"],
    ["a directory onto a link to nowhere", (out) => symlinkSync("nowhere", out), [directory("")], "ENOTDIR"],
    ["a file onto a pipe", (out) => runProgram(["mkfifo", out]), [file("", 0)], "EEXIST"],
    [
      "a file onto a directory further down",
      (out) => mkdirSync(`${out}/z`, { recursive: true }),
      [directory(""), file("a", 0), file("z", 0)],
      "EISDIR",
    ],
    [
      "a directory onto a link further down, even one to a directory",
      (out) => {
        mkdirSync(`${out}/real`, { recursive: true });
        symlinkSync("real", `${out}/z`);
      },
      [directory(""), file("a", 0), directory("z"), file("z/evil", 0)],
      "ENOTDIR",
    ],
  ];
  test.each(conflicts)("of %s", async (_, prepare, parts, expected) => {
    const root = scratch();
    await prepare(join(root, "out"));
    const before = contents(root);
    await expect(download(encodeTree(parts), join(root, "out"))).rejects.toMatchObject({
      code: expected,
      details: { side: "host" },
    });
    expect(contents(root)).toEqual(before);
  });

  test("where a parent is a file", async () => {
    const root = scratch();
    writeFileSync(join(root, "file"), "old");
    await expect(download(encodeTree(good), join(root, "file/out"))).rejects.toThrow(code("STORAGE_FAILED"));
    expect(contents(root)).toEqual({ file: "old" });
  });

  test("of a socket or device", async () => {
    const root = scratch();
    await expect(download(encodeTree([leftOut("", 12)]), join(root, "out"))).rejects.toMatchObject({
      ...{ code: "EINVAL", syscall: "download", path: "/src/name" },
    });
    expect(contents(root)).toEqual({});
  });
});

test("a link at the end of the destination is followed to a directory, and replaced by a file", async () => {
  const root = scratch();
  mkdirSync(join(root, "real"));
  symlinkSync("real", join(root, "l"));
  await download(encodeTree([directory(""), file("a", 0)]), join(root, "l"));
  symlinkSync("nowhere", join(root, "m"));
  await download(encodeTree([file("", 1), [0, "x"]]), join(root, "m"));
  expect(contents(root)).toEqual({ real: "/", "real/a": "", l: "-> real", m: "x" });
});

test.each([
  ["", {}],
  ["a\0b", {}],
  ["x", { maxBytes: -1 }],
  ["x", { from: "relative" }],
])("refuses %j before the guest hears of it", async (to, options) => {
  await expect(download(Buffer.alloc(0), to, options)).rejects.toThrow(code("INVALID_CONFIG"));
});

function deep(levels: number): TreePart[] {
  return Array.from({ length: levels }, (_, index) =>
    directory(index === 0 ? "" : Array.from({ length: index }, () => "d").join("/")),
  );
}
