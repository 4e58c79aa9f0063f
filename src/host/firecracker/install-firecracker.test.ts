import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { ProgressEvent } from "../../base/progress.js";
import { type InstallChoice, type InstallOptions, installFirecracker, planInstall } from "./install-firecracker.js";
import { ARCHITECTURE, releaseArchive, releaseEntries, releaseOf, script, tar, VERSION } from "./testing/archives.js";
import { type Answer, file, inTurn, type ReleaseServer, serve, status } from "./testing/release-server.js";
import { scratch, tree } from "./testing/scratch.js";

const DIRECTORY = `v${VERSION}-${ARCHITECTURE}`;
const INSTALLED = ["staging", DIRECTORY, `${DIRECTORY}/firecracker`, `${DIRECTORY}/jailer`].sort();
const archive = releaseArchive({ ballastBytes: 200_000 });

/** Options for an installation of one archive from one server, into a cache of its own. */
function optionsFor(server: ReleaseServer, options: InstallOptions = {}) {
  return {
    architecture: ARCHITECTURE,
    release: releaseOf(archive),
    mirror: server.url,
    ...options,
    paths: { cacheDir: scratch() },
    limits: { pauseMs: 1, ...options.limits },
  } as const;
}

const left = ({ paths }: { readonly paths: { readonly cacheDir: string } }) =>
  tree(join(paths.cacheDir, "firecracker"));
const code = (name: string) => expect.objectContaining({ code: name });

describe("a good archive", () => {
  test("becomes two programs in one directory, with nothing beside them", async () => {
    const server = await serve(file(archive));
    const options = optionsFor(server);
    const found = await installFirecracker(options);
    expect(found.firecracker.path).toBe(join(options.paths.cacheDir, "firecracker", DIRECTORY, "firecracker"));
    expect(found).toMatchObject({ origin: "installed", firecracker: { version: { text: VERSION } } });
    expect(found.jailer?.version.text).toBe(VERSION);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests.map(({ path }) => path)).toEqual([
      `/mirror/v${VERSION}/firecracker-v${VERSION}-${ARCHITECTURE}.tgz`,
    ]);
  });

  test("has mode 0755 whatever the umask is", async () => {
    const options = optionsFor(await serve(file(archive)));
    const before = process.umask(0o077);
    try {
      await installFirecracker(options);
    } finally {
      process.umask(before);
    }
    for (const name of ["", "firecracker", "jailer"]) {
      const path = join(options.paths.cacheDir, "firecracker", DIRECTORY, name);
      expect(statSync(path).mode & 0o7777, path).toBe(0o755);
    }
  });

  test("is downloaded once: what is there stays", async () => {
    const server = await serve(file(archive));
    const options = optionsFor(server);
    await installFirecracker(options);
    await installFirecracker(options);
    expect(server.requests).toHaveLength(1);
  });

  test("is told of while it comes", async () => {
    const events: ProgressEvent[] = [];
    const onProgress = (event: ProgressEvent) => void events.push(event);
    await installFirecracker(optionsFor(await serve(file(archive)), { onProgress }));
    const fractions = events.flatMap(({ fraction }) => fraction ?? []);
    expect(fractions.at(-1)).toBe(1);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(events.find(({ fraction }) => fraction === 1)?.detail).toBe("0.2 of 0.2 MB");
  });

  test("comes without a length, too, and over redirects", async () => {
    const whole = file(archive, { chunked: true });
    const server = await serve((exchange) =>
      exchange.request.url === "/elsewhere" ? whole(exchange) : status(302, { location: "/elsewhere" })(exchange),
    );
    const options = optionsFor(server);
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests.map(({ path }) => path).at(-1)).toBe("/elsewhere");
  });

  test("replaces a copy that is of no use", async () => {
    const options = optionsFor(await serve(file(archive)));
    const directory = join(options.paths.cacheDir, "firecracker", DIRECTORY);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    writeFileSync(join(directory, "firecracker"), script("Firecracker", "1.15.0"), { mode: 0o755 });
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(readFileSync(join(directory, "firecracker"), "utf8")).toBe(script("Firecracker", VERSION));
  });
});

describe("leaves nothing", () => {
  /** Installs, and expects it to fail with nothing left. */
  async function expectFailure(server: ReleaseServer, expected: object, options: InstallOptions = {}) {
    const all = optionsFor(server, options);
    await expect(installFirecracker(all)).rejects.toMatchObject(expected);
    expect(left(all)).toEqual(["staging"]);
  }

  test("of an archive that was altered, and executes nothing of it", async () => {
    const mark = join(scratch(), "was-executed");
    const evil = releaseArchive({ firecracker: script("Firecracker", VERSION, mark) });
    const details = { expected: releaseOf(archive).sha256[ARCHITECTURE], actual: releaseOf(evil).sha256[ARCHITECTURE] };
    const server = await serve(file(evil));
    await expectFailure(server, { code: "TRANSFER_FAILED", details });
    expect(server.requests).toHaveLength(1);
    expect(existsSync(mark)).toBe(false);
  });

  test("of a truncated one that the server takes for whole", async () => {
    const server = await serve(file(archive.subarray(0, archive.length - 1)));
    await expectFailure(server, { code: "TRANSFER_FAILED", message: expect.stringContaining("sha256") });
  });

  test.each([
    ["firecracker", { firecracker: script("Firecracker", "1.15.1") }],
    ["jailer", { jailer: script("Jailer", "1.16.0") }],
  ])("when the %s in it is of another version", async (_, parts) => {
    const other = releaseArchive(parts);
    const expected = { code: "TRANSFER_FAILED", message: expect.stringMatching(/is v1\.1\d\.\d, needed is v1\.16\.1/) };
    await expectFailure(await serve(file(other)), expected, { release: releaseOf(other) });
  });

  test("when a program in it does not run", async () => {
    const other = releaseArchive({ jailer: "no program" });
    const expected = { code: "HOST_UNSUPPORTED", message: expect.stringContaining("as jailer") };
    await expectFailure(await serve(file(other)), expected, { release: releaseOf(other) });
  });

  test.each([404, 403, 410])("after status %i, asked once", async (answer) => {
    const server = await serve(status(answer));
    await expectFailure(server, { code: "TRANSFER_FAILED", details: { status: answer } });
    expect(server.requests).toHaveLength(1);
  });

  test("after status 500, asked three times", async () => {
    const server = await serve(status(500));
    await expectFailure(server, { code: "TRANSFER_FAILED", message: expect.stringContaining("500") });
    expect(server.requests).toHaveLength(3);
  });

  test("of redirects that lead nowhere", async () => {
    await expectFailure(await serve(status(302, { location: "/mirror" })), { code: "TRANSFER_FAILED" });
  });

  test.each([{ chunked: false }, { chunked: true }])("of a file that is too large (%o)", async (how) => {
    const expected = { code: "TRANSFER_FAILED", message: expect.stringContaining("larger than 100000 bytes") };
    const server = await serve(file(archive, how));
    await expectFailure(server, expected, { limits: { sizeBytes: 100_000 } });
    expect(server.requests).toHaveLength(1);
  });

  test("where nobody listens", async () => {
    await expectFailure({ url: "http://127.0.0.1:9/", requests: [] }, { code: "TRANSFER_FAILED" });
  });

  test.each([
    ["no jailer", tar(releaseEntries({ leaveOut: "jailer" })), '-x86_64" is not in it'],
    ["no firecracker", tar(releaseEntries({ leaveOut: "firecracker" })), '-x86_64" is not in it'],
    ["a program twice", tar([...releaseEntries(), ...releaseEntries()]), "twice"],
    ["a name with ..", tar(releaseEntries({ more: [{ name: "release/../../evil" }] })), "leads out"],
    ["an absolute name", tar(releaseEntries({ more: [{ name: "/tmp/evil" }] })), "leads out"],
    ["a symbolic link", tar(releaseEntries({ more: [{ name: "a", type: "2", linkName: "/etc" }] })), 'type "2"'],
    ["a device", tar(releaseEntries({ more: [{ name: "a", type: "3" }] })), 'type "3"'],
    ["a size beyond its end", tar(releaseEntries({ more: [{ name: "a", size: "77777777777\0" }] })), "ends early"],
    ["an end in the middle", tar(releaseEntries()).subarray(0, 2_000), "ends early"],
  ])("of an archive with %s", async (_, content, why) => {
    const hostile = gzipSync(content);
    const expected = { code: "TRANSFER_FAILED", message: expect.stringContaining(why) };
    await expectFailure(await serve(file(hostile)), expected, { release: releaseOf(hostile) });
  });

  test("of one that is no archive, or unpacks without end", async () => {
    const nonsense = Buffer.from("nonsense");
    const bomb = gzipSync(Buffer.alloc(257 * 1024 * 1024), { level: 1 });
    const failing = { code: "TRANSFER_FAILED" };
    await expectFailure(await serve(file(nonsense)), failing, { release: releaseOf(nonsense) });
    const expected = { ...failing, message: expect.stringContaining("more than 268435456 bytes") };
    await expectFailure(await serve(file(bomb)), expected, { release: releaseOf(bomb) });
  });
});

describe("a download that is cut short", () => {
  const half = Math.floor(archive.length / 2);

  test("goes on where it ended: no byte comes twice", async () => {
    const etag = '"one"';
    const server = await serve(inTurn(file(archive, { etag, cutAfterBytes: half }), file(archive, { etag })));
    const options = optionsFor(server);
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests.map(({ sentBytes }) => sentBytes)).toEqual([half, archive.length - half]);
    expect(server.requests[1]).toMatchObject({ range: `bytes=${half}-`, ifRange: etag });
  });

  /** A cache in which an installation was cut short after half of the archive. */
  async function halfDone(etag?: string) {
    const cut = file(archive, { stallAfterBytes: half, ...(etag === undefined ? {} : { etag }) });
    let later = cut;
    const server = await serve((exchange) => (exchange.index === 0 ? cut : later)(exchange));
    const options = optionsFor(server);
    await expect(installFirecracker({ ...options, timeoutMs: 500 })).rejects.toThrow(code("TIMEOUT"));
    expect(left(options).filter((name) => name.endsWith("archive.tgz"))).toHaveLength(1);
    const answer = (next: Answer) => {
      later = next;
    };
    return { server, options, answer };
  }

  test("by its deadline leaves a piece, with which the next call goes on", async () => {
    const { server, options, answer } = await halfDone();
    answer(file(archive));
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests[1]).toMatchObject({ range: `bytes=${half}-`, sentBytes: archive.length - half });
  });

  test("by its caller likewise", async () => {
    const server = await serve(file(archive, { stallAfterBytes: half }));
    const options = optionsFor(server);
    const failing = installFirecracker({ ...options, signal: AbortSignal.timeout(300) });
    await expect(failing).rejects.toThrow(code("ABORTED"));
    expect(left(options).filter((name) => name.endsWith("archive.tgz"))).toHaveLength(1);
  });

  test("starts over where the server does not know ranges", async () => {
    const { server, options, answer } = await halfDone();
    answer(file(archive, { ranges: false }));
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests[1]).toMatchObject({ range: `bytes=${half}-`, sentBytes: archive.length });
  });

  test("starts over where the server has another file by now", async () => {
    const { server, options, answer } = await halfDone('"old"');
    answer(file(archive, { etag: '"new"' }));
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests[1]).toMatchObject({ ifRange: '"old"', sentBytes: archive.length });
  });

  test("starts over, once, where its piece was damaged", async () => {
    const { server, options, answer } = await halfDone();
    const staging = join(options.paths.cacheDir, "firecracker/staging");
    const [name] = readdirSync(staging);
    writeFileSync(join(staging, name!, "archive.tgz"), Buffer.alloc(half));
    answer(file(archive));
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests.slice(1).map(({ range }) => range)).toEqual([`bytes=${half}-`, undefined]);
  });

  test("uses no piece that is longer than the file, or of another release", async () => {
    const { server, options, answer } = await halfDone();
    const staging = join(options.paths.cacheDir, "firecracker/staging");
    const [name] = readdirSync(staging);
    writeFileSync(join(staging, name!, "archive.tgz"), Buffer.alloc(archive.length + 1));
    answer(file(archive));
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
    expect(server.requests.slice(1).map(({ sentBytes }) => sentBytes)).toEqual([0, archive.length]);
    const other = await halfDone();
    const newer = releaseArchive({ ballastBytes: 100_000 });
    other.answer(file(newer));
    await installFirecracker({ ...other.options, release: releaseOf(newer) });
    expect(other.server.requests[1]?.range).toBeUndefined();
    expect(left(other.options)).toEqual(INSTALLED);
  });

  test("every time is an error, and nothing beside the piece is left", async () => {
    const server = await serve(file(archive, { cutAfterBytes: 1_000 }));
    const options = optionsFor(server);
    await expect(installFirecracker(options)).rejects.toMatchObject({
      code: "TRANSFER_FAILED",
      hint: expect.stringContaining("goes on where it ended"),
    });
    expect(server.requests.map(({ range }) => range)).toEqual([undefined, "bytes=1000-", "bytes=2000-"]);
    expect(left(options).filter((name) => name.split("/").length > 2)).toEqual([
      expect.stringMatching(/archive\.tgz$/),
      expect.stringMatching(/source\.json$/),
    ]);
  });

  test("is noticed when the server only falls silent", async () => {
    const server = await serve(inTurn(file(archive, { stallAfterBytes: half }), file(archive)));
    const options = optionsFor(server, { limits: { silenceMs: 200 } });
    await installFirecracker(options);
    expect(server.requests[1]?.range).toBe(`bytes=${half}-`);
  });

  test("and a server that was busy is asked again", async () => {
    const server = await serve(inTurn(status(503), file(archive)));
    const options = optionsFor(server);
    await installFirecracker(options);
    expect(left(options)).toEqual(INSTALLED);
  });
});

test("two at once both end well", async () => {
  const server = await serve(file(archive));
  const options = optionsFor(server);
  const found = await Promise.all([1, 2, 3].map(() => installFirecracker(options)));
  expect(new Set(found.map(({ firecracker }) => firecracker.path)).size).toBe(1);
  expect(left(options)).toEqual(INSTALLED);
});

test("nothing is put where others can write", async () => {
  const server = await serve(file(archive));
  const options = optionsFor(server);
  chmodSync(options.paths.cacheDir, 0o777);
  await expect(installFirecracker(options)).rejects.toThrow(code("STORAGE_FAILED"));
  expect(server.requests).toHaveLength(0);
});

describe("the plan", () => {
  test("names what would be done", () => {
    const paths = { cacheDir: "/cache" };
    const options: InstallChoice = {
      paths,
      architecture: ARCHITECTURE,
      release: releaseOf(archive),
      mirror: "https://mirror.example/fc/",
    };
    expect(planInstall(options)).toEqual({
      version: VERSION,
      url: `https://mirror.example/fc/v${VERSION}/firecracker-v${VERSION}-${ARCHITECTURE}.tgz`,
      sha256: releaseOf(archive).sha256[ARCHITECTURE],
      directory: `/cache/firecracker/${DIRECTORY}`,
    });
  });

  test("is refused where no sha256 is known, with the way by hand", () => {
    const release = { version: VERSION, sha256: {} };
    const refused = expect.objectContaining({ code: "HOST_UNSUPPORTED", hint: expect.stringContaining("on PATH") });
    expect(() => planInstall({ release, architecture: "aarch64" })).toThrow(refused);
  });

  test.each(["ftp://a/b", "file:///a", "a/b", "https://user:secret@a/b", "https://a/b?c", ""])(
    "is refused for mirror %j",
    (mirror) => {
      const refused = { code: "INVALID_CONFIG", details: expect.objectContaining({ field: "mirror" }) };
      expect(() => planInstall({ mirror })).toThrow(expect.objectContaining(refused));
      expect(() => planInstall({ mirror })).not.toThrow(/secret/);
    },
  );
});
