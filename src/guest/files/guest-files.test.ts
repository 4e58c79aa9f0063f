import { expect, test } from "vitest";
import { GuestFileError } from "../../errors/guest-file-error.js";
import { FieldWriter } from "../fields.js";
import { FakeAgent } from "../testing/fake-agent.js";
import { answer, entry, give, nextCall, statFields, takeAll } from "../testing/file-agent.js";
import { GuestFiles } from "./guest-files.js";

async function connected() {
  const { agent, connection } = await FakeAgent.connected();
  return { agent, connection, files: new GuestFiles(async () => connection) };
}

const code = (expected: string) => expect.objectContaining({ code: expected });

test.each([
  ["rm", (files: GuestFiles) => files.rm("/a", { recursive: true, force: true }), "fs.rm", [15, 17]],
  ["rm without options", (files: GuestFiles) => files.rm("/a"), "fs.rm", []],
  ["rename", (files: GuestFiles) => files.rename("/a", "/b"), "fs.rename", [11]],
  ["chmod", (files: GuestFiles) => files.chmod("/a", "755"), "fs.chmod", [14]],
  ["access", (files: GuestFiles) => files.access("/a", 5), "fs.access", [18]],
  ["utimes", (files: GuestFiles) => files.utimes("/a", 1, new Date(2)), "fs.utimes", [27, 22]],
  ["mkdir", (files: GuestFiles) => files.mkdir("/a", 0o700), "fs.mkdir", [14]],
])("%s sends its fields and resolves with nothing", async (_, ask, operation, tags) => {
  const { agent, files } = await connected();
  const asking = ask(files);
  const call = await nextCall(agent);
  expect([call.operation, call.fields.bytes(10)?.toString()]).toEqual([operation, "/a"]);
  const sent = [11, 12, 14, 15, 17, 18, 22, 27].filter((tag) => call.fields.bytes(tag) !== undefined);
  expect(sent).toEqual([...tags].sort((a, b) => a - b));
  answer(agent, call.stream);
  expect(await asking).toBeUndefined();
});

test("symlink keeps the target's bytes, and its error names both paths", async () => {
  const { agent, files } = await connected();
  const linking = files.symlink(Buffer.from([0xff]), "/a");
  const call = await nextCall(agent);
  expect([call.fields.bytes(10), call.fields.bytes(11)?.toString()]).toEqual([Buffer.from([0xff]), "/a"]);
  agent.failed(call.stream, "EEXIST", "exists");
  await expect(linking).rejects.toMatchObject({ code: "EEXIST", errno: -17, syscall: "symlink", dest: "/a" });
});

test("mkdir recursive tells what it made first, and nothing else", async () => {
  const { agent, files } = await connected();
  const making = files.mkdir("/a/b", { recursive: true });
  answer(agent, (await nextCall(agent)).stream, new FieldWriter().bytes(16, Buffer.from("/a")));
  expect(await making).toBe("/a");
  const lied = files.mkdir("/a/b", { recursive: true });
  answer(agent, (await nextCall(agent)).stream, new FieldWriter().bytes(16, Buffer.from("/etc")));
  await expect(lied).rejects.toThrow(code("PROTOCOL_ERROR"));
});

test("stat follows, lstat does not", async () => {
  const { agent, files } = await connected();
  for (const [name, follows] of [
    ["stat", true],
    ["lstat", false],
  ] as const) {
    const asking = files[name]("/a");
    const call = await nextCall(agent);
    expect([call.operation, call.fields.bytes(12)]).toEqual(["fs.stat", follows ? undefined : Buffer.from([1])]);
    answer(agent, call.stream, statFields());
    expect((await asking).isFile()).toBe(true);
  }
});

test("readlink gives text or bytes, and refuses what no link holds", async () => {
  const { agent, files } = await connected();
  const ask = async (target: FieldWriter, options?: "buffer") => {
    const asking = options === undefined ? files.readlink("/a") : files.readlink("/a", options);
    asking.catch(() => {});
    answer(agent, (await nextCall(agent)).stream, target);
    return asking;
  };
  expect(await ask(new FieldWriter().text(16, "../ä"))).toBe("../ä");
  expect(await ask(new FieldWriter().bytes(16, Buffer.from([0xff])), "buffer")).toEqual(Buffer.from([0xff]));
  for (const bad of [new FieldWriter(), new FieldWriter().text(16, ""), new FieldWriter().text(16, "a\0")]) {
    await expect(ask(bad)).rejects.toThrow(code("PROTOCOL_ERROR"));
  }
});

test("readFile gives bytes, or text where an encoding is given", async () => {
  const { agent, files } = await connected();
  const ask = async (options?: { readonly encoding: "utf8" }) => {
    const reading = options === undefined ? files.readFile("/a") : files.readFile("/a", options);
    const call = await nextCall(agent);
    expect([call.operation, call.fields.u64(33)]).toEqual(["fs.read", 2n ** 28n + 1n]);
    await give(agent, call.stream, Buffer.from("häm"), 2);
    answer(agent, call.stream);
    return reading;
  };
  expect(await ask()).toEqual(Buffer.from("häm"));
  expect(await ask({ encoding: "utf8" })).toBe("häm");
});

test("readFile reads far more than one credit", async () => {
  const { agent, files } = await connected();
  const content = Buffer.alloc(1_000_003, "0123456789");
  const reading = files.readFile("/a");
  const call = await nextCall(agent);
  await give(agent, call.stream, content);
  answer(agent, call.stream);
  expect((await reading).equals(content)).toBe(true);
});

test("readFile keeps its limit, also against a guest that does not", async () => {
  const { agent, files } = await connected();
  const reading = files.readFile("/a", { maxBytes: 3 });
  const call = await nextCall(agent);
  expect(call.fields.u64(33)).toBe(4n);
  await give(agent, call.stream, Buffer.from("1234"));
  answer(agent, call.stream);
  await expect(reading).rejects.toMatchObject({ code: "EFBIG", path: "/a" });
  const flooded = files.readFile("/a", { maxBytes: 3 });
  flooded.catch(() => {});
  const second = await nextCall(agent);
  await give(agent, second.stream, Buffer.from("12345"));
  await agent.next("kill");
  agent.failed(second.stream, "ECANCELED", "cancelled");
  await expect(flooded).rejects.toThrow(code("PROTOCOL_ERROR"));
});

test.each([
  ["text", "häm", undefined, 0],
  ["text in an encoding", "ff00", { encoding: "hex", flag: "wx", mode: 0o600 } as const, 2],
  ["bytes", Buffer.from("x".repeat(300_000)), { flag: "r+" } as const, 12],
  ["pieces", [Buffer.from("a"), "b"], { flag: "a" } as const, 1],
])("writeFile sends %s", async (_, data, options, flags) => {
  const { agent, files } = await connected();
  const writing = files.writeFile("/a", data, options);
  const call = await nextCall(agent);
  expect([call.operation, call.fields.u32(34), call.fields.u32(14)]).toEqual([
    "fs.write",
    flags,
    options && "mode" in options ? 0o600 : undefined,
  ]);
  const encoding = options !== undefined && "encoding" in options ? options.encoding : "utf8";
  const expected = Array.isArray(data) ? Buffer.from("ab") : Buffer.from(data as string, encoding);
  const taken = await takeAll(agent, call.stream);
  expect(taken.equals(expected)).toBe(true);
  answer(agent, call.stream, new FieldWriter().u64(21, BigInt(taken.length)));
  expect(await writing).toBeUndefined();
});

test("appendFile appends, unless told otherwise", async () => {
  const { agent, files } = await connected();
  for (const [options, flags] of [
    [undefined, 1],
    [{ flag: "ax" }, 3],
    [{ flag: undefined }, 1],
  ] as const) {
    const writing = files.appendFile("/a", "", options);
    const call = await nextCall(agent);
    expect(call.fields.u32(34)).toBe(flags);
    await agent.next("end");
    answer(agent, call.stream, new FieldWriter().u64(21, 0n));
    await writing;
  }
});

test("writeFile stops a source that never ends when the guest refuses, and a source's own error is the caller's", async () => {
  const { agent, files } = await connected();
  let isStopped = false;
  const endless = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise<IteratorResult<string>>(() => {}),
      return: async () => {
        isStopped = true;
        return { done: true as const, value: undefined };
      },
    }),
  };
  const writing = files.writeFile("/a", endless);
  agent.failed((await nextCall(agent)).stream, "EISDIR", "a directory");
  await expect(writing).rejects.toMatchObject({ code: "EISDIR", syscall: "open", path: "/a" });
  expect(isStopped).toBe(true);

  async function* failing() {
    yield "a";
    throw new TypeError("mine");
  }
  const failed = files.writeFile("/a", failing());
  failed.catch(() => {});
  const call = await nextCall(agent);
  await agent.next("kill");
  agent.failed(call.stream, "ECANCELED", "cancelled");
  await expect(failed).rejects.toThrow(new TypeError("mine"));
});

test("a guest that says it wrote something else is not believed", async () => {
  const { agent, files } = await connected();
  for (const fields of [new FieldWriter(), new FieldWriter().u64(21, 2n)]) {
    const writing = files.writeFile("/a", "abc");
    const call = await nextCall(agent);
    await agent.next("end");
    answer(agent, call.stream, fields);
    await expect(writing).rejects.toThrow(code("PROTOCOL_ERROR"));
  }
});

test("readdir gives names, bytes or entries", async () => {
  const { agent, files } = await connected();
  const listing = Buffer.concat([entry(8, "a"), entry(4, "ä")]);
  const serve = async () => {
    const call = await nextCall(agent);
    expect(call.operation).toBe("fs.readdir");
    await give(agent, call.stream, listing, 3);
    answer(agent, call.stream);
  };
  const served = async <T>(asking: Promise<T>) => (await Promise.all([asking, serve()]))[0];
  expect(await served(files.readdir("/d"))).toEqual(["a", "ä"]);
  expect(await served(files.readdir("/d", "buffer"))).toEqual([Buffer.from("a"), Buffer.from("ä")]);
  const entries = await served(files.readdir("/d", { withFileTypes: true }));
  expect(entries.map((one) => [one.name, one.parentPath, one.isFile(), one.isDirectory()])).toEqual([
    ["a", "/d", true, false],
    ["ä", "/d", false, true],
  ]);
});

test("readdir goes down without following links, and looks types up that it is not told", async () => {
  const { agent, files } = await connected();
  const tree: Record<string, Buffer> = {
    "/d": Buffer.concat([entry(0, "sub"), entry(10, "link")]),
    "/d/sub": Buffer.concat([entry(8, "file"), entry(4, "deep")]),
    "/d/sub/deep": Buffer.alloc(0),
  };
  const asked: string[] = [];
  const asking = files.readdir("/d", { recursive: true, withFileTypes: true });
  const serve = async () => {
    for (let calls = 0; calls < 4; calls += 1) {
      const call = await nextCall(agent);
      const path = call.fields.bytes(10)?.toString() ?? "";
      asked.push(`${call.operation} ${path}`);
      if (call.operation === "fs.readdir")
        agent.stdout(call.stream, tree[path]?.length ? tree[path] : entry(8, "last"));
      answer(agent, call.stream, call.operation === "fs.stat" ? statFields({ mode: 0o040755 }) : new FieldWriter());
    }
  };
  const [found] = await Promise.all([asking, serve()]);
  expect(asked).toEqual(["fs.readdir /d", "fs.stat /d/sub", "fs.readdir /d/sub", "fs.readdir /d/sub/deep"]);
  expect(found.map(({ parentPath, name }) => `${parentPath}/${name}`)).toEqual([
    ...["/d/sub", "/d/link", "/d/sub/file", "/d/sub/deep", "/d/sub/deep/last"],
  ]);
});

test.each([
  ["ENOENT", "ENOENT"],
  ["EACCES", "EACCES"],
  ["EWEIRD", "EIO"],
])("a refusal with %s is %s", async (errno, expected) => {
  const { agent, files } = await connected();
  const asking = files.stat(Buffer.from("/a"));
  agent.failed((await nextCall(agent)).stream, errno, "no");
  const error = await asking.catch((one: unknown) => one);
  expect(error).toBeInstanceOf(GuestFileError);
  expect(error).toMatchObject({ code: expected, path: "/a", syscall: "stat" });
});

test.each([
  ["readFile", (files: GuestFiles) => files.readFile("a")],
  ["writeFile", (files: GuestFiles) => files.writeFile("/a", 5 as never)],
  ["writeFile's flag", (files: GuestFiles) => files.writeFile("/a", "", { flag: "r" as never })],
  ["mkdir", (files: GuestFiles) => files.mkdir("/a", "9")],
  ["readdir", (files: GuestFiles) => files.readdir("")],
  ["rename", (files: GuestFiles) => files.rename("/a", "b")],
  ["chmod", (files: GuestFiles) => files.chmod("/a", undefined as never)],
  ["symlink", (files: GuestFiles) => files.symlink("", "/a")],
  ["access", (files: GuestFiles) => files.access("/a", 8)],
  ["a limit", (files: GuestFiles) => files.stat("/a", { timeoutMs: -1 })],
  ["maxBytes", (files: GuestFiles) => files.readFile("/a", { maxBytes: 2 ** 40 })],
])("%s refuses what cannot be sent before the guest hears of it", async (_, ask) => {
  const { agent, files } = await connected();
  await expect(ask(files)).rejects.toThrow(code("INVALID_CONFIG"));
  expect(agent.all("call")).toEqual([]);
});

test("a call that is aborted before it began does not reach the guest", async () => {
  const { agent, files } = await connected();
  const signal = AbortSignal.abort();
  for (const ask of [
    files.stat("/a", { signal }),
    files.writeFile("/a", "", { signal }),
    files.readFile("/a", { signal }),
  ]) {
    await expect(ask).rejects.toThrow(code("ABORTED"));
  }
  expect(agent.all("call")).toEqual([]);
});

test("a limit that passes is TIMEOUT", async () => {
  const { files } = await connected();
  await expect(files.stat("/a", { timeoutMs: 5 })).rejects.toThrow(code("TIMEOUT"));
});

test("an aborted removal is stopped in the guest, and it is heard of when it was", async () => {
  const { agent, files } = await connected();
  const controller = new AbortController();
  const removing = files.rm("/big", { recursive: true, signal: controller.signal });
  removing.catch(() => {});
  const { stream } = await nextCall(agent);
  controller.abort();
  await agent.next("kill");
  agent.failed(stream, "ECANCELED", "cancelled");
  await expect(removing).rejects.toThrow(code("ABORTED"));
});

test("only a recursive removal may take as long as it takes, unless its caller says otherwise", async () => {
  const limits: number[] = [];
  const files = new GuestFiles(async ({ limitMs }) => {
    limits.push(limitMs);
    throw new TypeError("no way");
  });
  for (const options of [{ recursive: true }, { recursive: true, timeoutMs: 7 }, {}, undefined]) {
    await expect(files.rm("/a", options)).rejects.toThrow(TypeError);
  }
  expect(limits).toEqual([Number.POSITIVE_INFINITY, 7, 30_000, 30_000]);
});
