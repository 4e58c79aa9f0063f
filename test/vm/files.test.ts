// Files of a real guest: one by one, as streams, and as trees between guest and host.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { Terminal, terminalDriver } from "../support/terminal.js";
import { eventually, rejection } from "../support/wait.js";
import { CLI_PATH, CliProgram } from "./cli-program.js";

const state = testState();
const driver = terminalDriver();
const MIB_BYTES = 1024 * 1024;
let vm: Vm;
let work: string;
let round = 0;

beforeAll(async () => {
  vm = await SmolVM.create(state.config());
  work = mkdtempSync(join(tmpdir(), "smolvm-files-"));
});

beforeEach(async () => {
  round += 1;
  await vm.fs.mkdir(`/root/${round}`);
});

afterAll(async () => {
  rmSync(work, { recursive: true, force: true });
  await vm?.delete();
});

/** A place in the guest that is this test's own. */
const inGuest = (name = "") => `/root/${round}/${name}`;
const onHost = (name: string) => join(work, `${round}-${name}`);
const run = async (line: string) => (await vm.run(line, { check: true, cwd: inGuest() })).stdout;

describe("vm.fs", () => {
  it("reads and writes bytes as they are, and keeps Node's flags and codes", async () => {
    const { fs } = vm;
    const bytes = Buffer.from(Array.from({ length: 1000 }, (_, index) => (index * 7) % 256));
    await fs.writeFile(inGuest("a"), bytes);
    expect(await fs.readFile(inGuest("a"))).toEqual(bytes);
    await fs.appendFile(inGuest("a"), "ü\n");
    expect((await fs.readFile(inGuest("a"))).subarray(1000).toString()).toBe("ü\n");
    expect(await rejection(fs.writeFile(inGuest("a"), "x", { flag: "wx" }))).toMatchObject({
      code: "EEXIST",
      errno: -17,
      path: inGuest("a"),
    });
    expect(await rejection(fs.readFile(inGuest("none")))).toMatchObject({ code: "ENOENT", errno: -2 });
    expect(await rejection(fs.readFile(inGuest()))).toMatchObject({ code: "EISDIR" });
    expect(await rejection(fs.readFile(inGuest("a/b")))).toMatchObject({ code: "ENOTDIR" });
    expect(await rejection(fs.readFile("relative"))).toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "path" },
    });
    expect(await rejection(fs.writeFile("/proc/version", "x"))).toMatchObject({
      code: expect.stringMatching(/^E(ACCES|PERM|IO)$/),
    });
    expect(await fs.readFile("/proc/version", "utf8")).toMatch(/^Linux version/);
  });

  it("makes, lists, renames and removes", async () => {
    const { fs } = vm;
    expect(await fs.mkdir(inGuest("x/y/z"), { recursive: true })).toBe(inGuest("x"));
    await fs.writeFile(inGuest("x/f"), "1", { mode: 0o640 });
    await fs.symlink("f", inGuest("x/link"));
    expect((await fs.readdir(inGuest("x"))).sort()).toEqual(["f", "link", "y"]);
    const kinds = await fs.readdir(inGuest("x"), { withFileTypes: true });
    expect(kinds.filter((entry) => entry.isSymbolicLink()).map(({ name }) => name)).toEqual(["link"]);
    expect((await fs.readdir(inGuest("x"), { recursive: true })).sort()).toEqual(["f", "link", "y", "y/z"]);
    const stats = await fs.stat(inGuest("x/link"));
    expect([stats.isFile(), stats.size, stats.mode & 0o777, stats.uid]).toEqual([true, 1, 0o640, 0]);
    expect((await fs.lstat(inGuest("x/link"))).isSymbolicLink()).toBe(true);
    expect(await fs.readlink(inGuest("x/link"))).toBe("f");
    await fs.chmod(inGuest("x/f"), 0o600);
    expect(await run("stat -c %a x/f")).toBe("600\n");
    await fs.rename(inGuest("x/f"), inGuest("moved"));
    await fs.access(inGuest("moved"));
    expect(await rejection(fs.access(inGuest("x/f")))).toMatchObject({ code: "ENOENT" });
    expect(await rejection(fs.rm(inGuest("x")))).toMatchObject({ code: expect.stringMatching(/EISDIR/) });
    expect(await rejection(fs.rename(inGuest("moved"), inGuest("x")))).toMatchObject({ code: "EISDIR" });
    await fs.rm(inGuest("x"), { recursive: true });
    await fs.rm(inGuest("x"), { recursive: true, force: true });
    expect(await rejection(fs.rm(inGuest("x")))).toMatchObject({ code: "ENOENT" });
    expect(await fs.readdir(inGuest())).toEqual(["moved"]);
  });

  it("streams a file that is larger than the guest's memory, both ways", async () => {
    const sizeMib = 320; // The guest has 256 MiB.
    const piece = Buffer.alloc(MIB_BYTES, "smolvm");
    const sent = createHash("sha256");
    await pipeline(
      async function* () {
        for (let count = 0; count < sizeMib; count++) {
          sent.update(piece);
          yield piece;
        }
      },
      vm.fs.createWriteStream(inGuest("large")),
    );
    expect((await vm.fs.stat(inGuest("large"))).size).toBe(sizeMib * MIB_BYTES);
    const got = createHash("sha256");
    const before = process.memoryUsage().rss;
    let highest = before;
    for await (const data of vm.fs.createReadStream(inGuest("large"))) {
      got.update(data as Buffer);
      highest = Math.max(highest, process.memoryUsage.rss());
    }
    expect(got.digest("hex")).toBe(sent.digest("hex"));
    expect(highest - before).toBeLessThan(128 * MIB_BYTES);
    const middle: Buffer[] = [];
    for await (const data of vm.fs.createReadStream(inGuest("large"), { start: 5, end: 9 }))
      middle.push(data as Buffer);
    expect(Buffer.concat(middle)).toEqual(piece.subarray(5, 10));
    await vm.fs.rm(inGuest("large"));
  });

  it("is cancelled when a stream is destroyed, and works on", async () => {
    const endless = vm.fs.createReadStream("/dev/zero");
    for await (const _ of endless) break;
    const controller = new AbortController();
    await run("mkfifo pipe");
    const waiting = rejection(vm.fs.readFile(inGuest("pipe"), { signal: controller.signal }));
    setTimeout(() => controller.abort(), 100);
    expect(await waiting).toMatchObject({ code: "ABORTED" });
    expect(await vm.fs.readFile("/etc/hostname", "utf8")).toBe(`${vm.vmId}\n`);
  });
});

/** Mounts a small file system on `small`; the image has no mount(8). */
const SMALL_TMPFS = `python3 -c '
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b"tmpfs", b"small", b"tmpfs", 0, b"size=8m") == 0, ctypes.get_errno()'`;

/** What is told of a tree: types, modes, times, contents, targets. */
function described(root: string): Record<string, unknown> {
  const all: Record<string, unknown> = {};
  const visit = (directory: Buffer, prefix: string) => {
    for (const name of readdirSync(directory, { encoding: "buffer" })) {
      const path = Buffer.concat([directory, Buffer.from("/"), name]);
      const shown = prefix + name.toString("latin1");
      const stats = lstatSync(path, { bigint: true });
      const about = { mode: Number(stats.mode & 0o777n), mtimeMs: stats.mtimeNs / 1_000_000n };
      if (stats.isSymbolicLink()) all[shown] = { target: readlinkSync(path) };
      else if (stats.isDirectory()) {
        all[shown] = { ...about, directory: true };
        visit(path, `${shown}/`);
      } else {
        const hash = createHash("sha256").update(readFileSync(path)).digest("hex");
        all[shown] = { ...about, size: stats.size, hash };
      }
    }
  };
  visit(Buffer.from(root), "");
  return all;
}

function makeTree(root: string): void {
  mkdirSync(join(root, "sub/deeper"), { recursive: true });
  mkdirSync(join(root, "empty"));
  writeFileSync(join(root, "plain"), "plain\n");
  writeFileSync(join(root, "sub/program"), "#!/bin/sh\necho run\n");
  chmodSync(join(root, "sub/program"), 0o4755);
  writeFileSync(join(root, "sub/secret"), "secret", { mode: 0o600 });
  writeFileSync(join(root, "sub/empty-file"), "");
  writeFileSync(join(root, "a\nline 'and' \"quotes\" -rf \\"), "odd name");
  writeFileSync(Buffer.concat([Buffer.from(`${root}/sub/`), Buffer.from([0xff, 0xfe, 0x80])]), "not UTF-8");
  writeFileSync(join(root, `sub/${"n".repeat(255)}`), "long name");
  symlinkSync("plain", join(root, "link"));
  symlinkSync("../plain", join(root, "sub/up"));
  symlinkSync("nowhere", join(root, "sub/dangling"));
  linkSync(join(root, "plain"), join(root, "hard"));
  const sparse = openSync(join(root, "sparse"), "w");
  writeSync(sparse, "begin");
  writeSync(sparse, "middle", 30 * MIB_BYTES);
  ftruncateSync(sparse, 64 * MIB_BYTES);
  utimesSync(join(root, "plain"), 1_000_000_000.5, 1_000_000_000.5);
  utimesSync(join(root, "empty"), 1_100_000_000, 1_100_000_000);
  chmodSync(join(root, "sub/deeper"), 0o1777);
}

describe("trees", () => {
  it("go in and out as they are: modes without special bits, times, links, holes, all names", async () => {
    const source = onHost("tree");
    makeTree(source);
    const up = await vm.upload(source, inGuest("tree"));
    expect(up).toMatchObject({ files: 9, directories: 4, links: 3, skipped: [] });
    expect(await run("tree/sub/program; stat -c %a tree/sub/program tree/sub/deeper; readlink tree/sub/up")).toBe(
      "run\n755\n777\n../plain\n",
    );
    expect(Number(await run("du -k tree/sparse | cut -f1"))).toBeLessThan(1024);
    const back = onHost("back");
    const down = await vm.download(inGuest("tree"), back);
    expect(down).toEqual(up);
    const want = described(source);
    for (const name of ["sub/program", "sub/deeper"]) {
      (want[name] as { mode: number }).mode &= 0o777;
    }
    expect(described(back)).toEqual(want);
    expect(statSync(join(back, "sparse")).blocks * 512).toBeLessThan(MIB_BYTES);
  });

  it("join what is there, replace files in one step, and refuse what does not fit before anything is moved", async () => {
    const source = onHost("new");
    mkdirSync(join(source, "d"), { recursive: true });
    writeFileSync(join(source, "d/replaced"), "new");
    writeFileSync(join(source, "d/added"), "new");
    await run("mkdir -p there/d && echo old > there/d/replaced && echo old > there/kept");
    await vm.upload(source, inGuest("there"));
    expect(await run("cd there && head -n 9 kept d/replaced d/added | tr '\\n' ' '")).toBe(
      "==> kept <== old  ==> d/replaced <== new ==> d/added <== new",
    );
    await run("mkdir -p clash/d/replaced; echo old > clash/d/added");
    expect(await rejection(vm.upload(source, inGuest("clash")))).toMatchObject({ code: "EISDIR" });
    expect(await run("cat clash/d/added; ls -A clash/d")).toBe("old\nadded\nreplaced\n");
    // And to the host.
    const target = onHost("there");
    mkdirSync(join(target, "d/replaced"), { recursive: true });
    expect(await rejection(vm.download(inGuest("there"), target))).toMatchObject({ code: "EISDIR" });
    expect(readdirSync(target)).toEqual(["d"]);
    const single = onHost("single");
    await vm.download(inGuest("there/kept"), single);
    expect(readFileSync(single, "utf8")).toBe("old\n");
    await vm.upload(single, inGuest("missing/parents/file"));
    expect(await run("cat missing/parents/file")).toBe("old\n");
    expect(await rejection(vm.upload(onHost("none"), inGuest("x")))).toMatchObject({ code: "ENOENT" });
    expect(await rejection(vm.download(inGuest("none"), onHost("x")))).toMatchObject({ code: "ENOENT" });
    expect(await rejection(vm.upload(single, "relative"))).toMatchObject({ code: "INVALID_CONFIG" });
  });

  it("leave links that lead outside and special files behind, and say so", async () => {
    const source = onHost("special");
    mkdirSync(join(source, "d"), { recursive: true });
    for (const [name, target] of [
      ["absolute", "/etc/passwd"],
      ["d/up", "../../x"],
      ["d/twice", "ok/../../.."],
    ]) {
      symlinkSync(target as string, join(source, name as string));
    }
    execFileSync("mkfifo", [join(source, "pipe")]);
    const server = createServer().listen(join(source, "socket"));
    await new Promise((resolve) => server.once("listening", resolve));
    const { skipped, files } = await vm.upload(source, inGuest("special"));
    server.close();
    expect(files).toBe(0);
    expect(new Map(skipped.map(({ path, reason }) => [path, reason]))).toEqual(
      new Map([
        ["absolute", "outside"],
        ["d/up", "outside"],
        ["d/twice", "outside"],
        ["pipe", "pipe"],
        ["socket", "socket"],
      ]),
    );
    await run(
      "mkdir bad && cd bad && ln -s /etc/passwd abs && ln -s ../../.. up && mknod dev c 1 3 && mkfifo p && echo 1 > ok",
    );
    const back = onHost("bad");
    const down = await vm.download(inGuest("bad"), back);
    expect(down.skipped.map(({ path }) => path).sort()).toEqual(["abs", "dev", "p", "up"]);
    expect(readdirSync(back)).toEqual(["ok"]);
  });

  it("leave nothing on either side when they are aborted", async () => {
    const source = onHost("large");
    writeFileSync(source, Buffer.alloc(64 * MIB_BYTES, "x"));
    const controller = new AbortController();
    const { signal } = controller;
    const up = vm.upload(source, inGuest("large"), {
      signal,
      onProgress: ({ bytes }) => bytes > MIB_BYTES && controller.abort(),
    });
    expect(await rejection(up)).toMatchObject({ code: "ABORTED" });
    expect(await run("ls -A")).toBe("");
    await vm.upload(source, inGuest("large"));
    const limited = vm.download(inGuest("large"), onHost("back/large"), { timeoutMs: 60 });
    expect(await rejection(limited)).toMatchObject({ code: "TIMEOUT" });
    expect(existsSync(onHost("back"))).toBe(false);
    expect(readdirSync(work).filter((name) => name.includes(".smolvm-"))).toEqual([]);
  });

  it("leave nothing in the guest when the program is killed in the middle", async () => {
    const source = onHost("killed");
    writeFileSync(source, Buffer.alloc(200 * MIB_BYTES, "x"));
    const program = await Program.start();
    void program.call("upload", vm.vmId, source, inGuest("killed")).catch(() => {});
    await eventually(async () => ((await run("ls -A")).includes(".smolvm-") ? true : undefined));
    await program.kill();
    await eventually(async () => ((await run("ls -A")) === "" ? true : undefined));
  });

  it("end with the reason when a disk is full, and leave nothing", async () => {
    const source = onHost("large");
    writeFileSync(source, Buffer.alloc(24 * MIB_BYTES, "x"));
    await run(`mkdir small; ${SMALL_TMPFS}`);
    expect(await rejection(vm.upload(source, inGuest("small/large")))).toMatchObject({ code: "ENOSPC" });
    expect(await run("ls -A small")).toBe("");
    const target = onHost("small");
    mkdirSync(target);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", target]);
    try {
      await vm.upload(source, inGuest("large"));
      const full = await rejection(vm.download(inGuest("large"), join(target, "large")));
      expect(full).toMatchObject({ code: "STORAGE_FAILED", message: expect.stringContaining("ENOSPC") });
      expect(readdirSync(target)).toEqual([]);
    } finally {
      execFileSync("umount", [target]);
    }
  });
});

describe("smolvm cp", () => {
  it("copies both ways, into directories too, and shows how far it is on a terminal", async () => {
    const source = onHost("file.bin");
    writeFileSync(source, Buffer.alloc(48 * MIB_BYTES, "cp"));
    const env = { ...process.env, SMOLVM_STATE_DIR: state.stateDir };
    const up = new Terminal(driver, [process.execPath, CLI_PATH, "cp", source, `${vm.vmId}:${inGuest()}`], env);
    await up.shows(/\[#+\.*\] Copying \d+%/);
    expect((await up.ended()).exitCode).toBe(0);
    expect(await run("ls")).toBe(`${round}-file.bin\n`);
    const target = onHost("dir");
    mkdirSync(target);
    const from = `${vm.vmId}:${inGuest(`${round}-file.bin`)}`;
    const cli = new CliProgram();
    const down = JSON.parse(
      execFileSync(process.execPath, [CLI_PATH, "cp", "--json", from, target], { env }).toString(),
    );
    cli[Symbol.dispose]();
    expect(down).toMatchObject({ ok: true, data: { files: 1, bytes: 48 * MIB_BYTES } });
    expect(readFileSync(join(target, `${round}-file.bin`)).equals(readFileSync(source))).toBe(true);
  });

  it.each([
    ["a", "b"],
    ["box:/a", "box:/b"],
    ["box:relative", "b"],
    ["a", "box:"],
  ])("refuses %s %s", (from, to) => {
    const refused = () => execFileSync(process.execPath, [CLI_PATH, "cp", from, to], { stdio: "pipe" });
    expect(refused).toThrow(expect.objectContaining({ status: 64 }));
  });
});
