// Directories of the host in a guest: what it sees, what it may change, that it never gets out of them, and that they
// last as long as the VM and its copies do.

import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { expectNoCapturesAtTheEnd } from "../support/copies.js";
import { type ForkResult, SmolVM, type Vm } from "../support/smolvm.js";
import { processesAbout, testState } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const state = testState();
expectNoCapturesAtTheEnd(state);

/** Beside the directories that are mounted, on the host: nothing of it may ever be seen or changed. */
const place = realpathSync(mkdtempSync(join(tmpdir(), "smolvm-mounts-")));
afterAll(() => rmSync(place, { recursive: true, force: true }));
const [shown, shared, outside] = ["shown", "shared", "outside"].map((name) => join(place, name)) as [
  string,
  string,
  string,
];
const mounts = [
  { hostPath: shown, guestPath: "/mnt/shown" },
  { hostPath: shared, guestPath: "/mnt/shared", writable: true },
];

function fill(): void {
  for (const directory of [shown, shared, outside]) {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory);
  }
  writeFileSync(join(shown, "file"), "from the host\n");
  mkdirSync(join(shown, "sub"));
  writeFileSync(join(shown, "sub/tool"), "#!/bin/sh\necho ran $0\n", { mode: 0o755 });
  writeFileSync(join(outside, "secret"), "secret\n");
  symlinkSync("../outside/secret", join(shown, "link"));
  symlinkSync("../outside", join(shared, "out"));
}

fill();

/** A line of the login shell; what it says, whether it worked or not. */
async function sh(vm: Vm, line: string): Promise<string> {
  const { stdout, stderr, exitCode } = await vm.run(line, { timeoutMs: 60_000 });
  return `${stdout}${stderr}`.trimEnd() + (exitCode === 0 ? "" : `\nexit ${exitCode}`);
}

function serverPids(): number[] {
  return processesAbout(state.runtimeDir)
    .filter((line) => /^\d+ \S*hostfs/.test(line))
    .map((line) => Number.parseInt(line, 10));
}

function onHost(path: string): string {
  return readFileSync(join(place, path), "utf8");
}

function handle(child: ForkResult | undefined): Vm {
  if (child?.ok) return child.vm;
  throw child?.error ?? new Error("no child");
}

describe("a running VM's mounts", () => {
  let vm: Vm;

  beforeAll(async () => {
    vm = await SmolVM.create(state.config({ mounts }));
  });

  afterAll(async () => {
    await vm?.delete();
    expect(serverPids()).toEqual([]);
  });

  it("show what is there", async () => {
    expect(await sh(vm, "cat /mnt/shown/file; ls /mnt/shown; readlink /mnt/shown/link")).toBe(
      "from the host\nfile\nlink\nsub\n../outside/secret",
    );
    expect((await vm.exec(["./tool"], { cwd: "/mnt/shown/sub" })).output).toMatch(/^ran \/mnt\/shown\/sub\//);
    expect((await vm.exec(["stat", "-c", "%U %a", "/mnt/shown/file"])).output).toBe("root 644");
    expect((await vm.exec(["cat", "/mnt/shown/file"], { user: "nobody" })).output).toBe("from the host");
  });

  it("keep what the guest writes to itself by default", async () => {
    const before = readdirSync(shown).sort();
    const said = await sh(
      vm,
      "cd /mnt/shown; echo mine > file; echo new > sub/new; rm link; mkdir d; mv sub/tool d/tool; cat file sub/new; ls . d",
    );
    expect(said).toBe("mine\nnew\n.:\nd\nfile\nsub\n\nd:\ntool");
    expect(onHost("shown/file")).toBe("from the host\n");
    expect(readdirSync(shown).sort()).toEqual(before);
    expect(readdirSync(join(shown, "sub"))).toEqual(["tool"]);
    // Not even root gets behind the overlay: the host itself refuses.
    const below = "/run/smolvm/mounts/0/lower";
    expect(await sh(vm, `mount -o remount,rw ${below} 2>/dev/null; echo x > ${below}/file`)).toContain("Read-only");
    expect(onHost("shown/file")).toBe("from the host\n");
  });

  it("show at once what the host changes", async () => {
    writeFileSync(join(shown, "late"), "late\n");
    expect(await sh(vm, "cat /mnt/shown/late")).toBe("late");
    writeFileSync(join(place, "next"), "replaced\n");
    renameSync(join(place, "next"), join(shown, "late"));
    await eventually(async () => ((await sh(vm, "cat /mnt/shown/late")) === "replaced" ? true : undefined));
    rmSync(join(shown, "late"));
    await eventually(async () => ((await sh(vm, "cat /mnt/shown/late")).includes("No such file") ? true : undefined));
  });

  it("take what the guest writes where they are writable", async () => {
    const said = await sh(
      vm,
      `cd /mnt/shared; echo one > a; mkdir -p d/e; mv a d/e/b; ln d/e/b c; chmod 600 c; echo more >> d/e/b; cat c;
       head -c 3000000 /dev/urandom > big; sha256sum < big; ln -s d/e/b s; rm c; cat s; ls`,
    );
    const [, , sum] = said.split("\n");
    expect(said.split("\n").slice(0, 2)).toEqual(["one", "more"]);
    expect(said.split("\n").slice(3)).toEqual(["one", "more", "big", "d", "out", "s"]);
    expect(onHost("shared/d/e/b")).toBe("one\nmore\n");
    expect(lstatSync(join(shared, "d/e/b")).mode & 0o7777).toBe(0o600);
    const { createHash } = await import("node:crypto");
    expect(
      `${createHash("sha256")
        .update(readFileSync(join(shared, "big")))
        .digest("hex")}  -`,
    ).toBe(sum);
    writeFileSync(join(shared, "reply"), "from the host\n");
    expect(await sh(vm, "cat /mnt/shared/reply")).toBe("from the host");
  });

  it("work for programs that need real file systems", async () => {
    const repository = "git init -q r && cd r && git config user.email a@b.c && git config user.name n";
    const commits = "for i in 1 2 3; do echo $i > f$i && git add . && git commit -qm $i; done";
    expect(await sh(vm, `cd /mnt/shared && ${repository} && ${commits} && git fsck && git log --format=%s`)).toBe(
      "3\n2\n1",
    );
    const script = `
import mmap, os, tempfile
f = tempfile.TemporaryFile(dir="."); f.write(b"abc"); f.flush(); print(os.fstat(f.fileno()).st_size)
open("m", "wb").write(b"x" * 10000)
g = open("m", "r+b"); m = mmap.mmap(g.fileno(), 0); m[0:4] = b"MMAP"; m.flush(); print(open("m", "rb").read(6))`;
    expect(await sh(vm, `cd /mnt/shared && python3 -c '${script}'`)).toBe("3\nb'MMAPxx'");
    expect(onHost("shared/m").slice(0, 6)).toBe("MMAPxx");
  });

  it("hold what no guest may make on a host", async () => {
    const script = `
import os
def attempt(name, call):
  try: call(); print(name, "worked")
  except OSError as e: print(name, os.strerror(e.errno))
os.chdir("/mnt/shared"); open("x", "w").close()
attempt("setuid", lambda: os.chmod("x", 0o4755))
attempt("setgid", lambda: os.chmod("x", 0o2755))
attempt("owner", lambda: os.chown("x", 1000, 1000))
attempt("device", lambda: os.mknod("dev", 0o20666, os.makedev(1, 3)))
attempt("pipe", lambda: os.mkfifo("fifo"))`;
    const no = "Operation not permitted";
    expect((await sh(vm, `python3 -c '${script}'`)).split("\n")).toEqual(
      ["setuid", "setgid", "owner", "device", "pipe"].map((name) => `${name} ${no}`),
    );
    expect(readdirSync(shared)).not.toContain("dev");
  });

  it("lead nowhere else, whatever root in the guest tries", async () => {
    // Links are the guest's: they lead to places in the guest, where there is nothing.
    expect(await sh(vm, "cat /mnt/shared/out/secret")).toContain("No such file");
    expect(await sh(vm, "cd /mnt/shared; ln -s ../../../../../outside l; cat l/secret")).toContain("No such file");
    expect(await sh(vm, "ls /mnt/shared/../outside")).toContain("No such file");
    expect(
      await sh(vm, "cd /mnt/shared; ln out second; rename out second 2>/dev/null; mv second moved; ls -d moved"),
    ).toBe("moved");
    expect(lstatSync(join(shared, "moved")).isSymbolicLink()).toBe(true);
    await sh(vm, "cd /mnt/shared; mkdir way; ln -sfn /etc way/etc; cp /etc/hostname way/etc/smolvm-test-hostname");
    expect(existsSync("/etc/smolvm-test-hostname")).toBe(false);
    expect(readdirSync(outside)).toEqual(["secret"]);
    expect(onHost("outside/secret")).toBe("secret\n");
  });

  it("do not follow a directory that becomes a link on the host", async () => {
    mkdirSync(join(shared, "dir"));
    writeFileSync(join(shared, "dir/secret"), "own\n");
    expect(await sh(vm, "cat /mnt/shared/dir/secret")).toBe("own");
    const reading = vm.run("cd /mnt/shared/dir; for i in $(seq 300); do cat secret; echo w > made; done 2>/dev/null");
    for (let i = 0; i < 200; i++) {
      renameSync(join(shared, "dir"), join(shared, "was"));
      symlinkSync(outside, join(shared, "dir"));
      await new Promise((done) => setTimeout(done, 3));
      rmSync(join(shared, "dir"));
      renameSync(join(shared, "was"), join(shared, "dir"));
    }
    const { stdout } = await reading;
    expect(stdout).not.toContain("secret");
    expect(readdirSync(outside)).toEqual(["secret"]);
    expect(onHost("outside/secret")).toBe("secret\n");
  });

  it("start commands whose program or interpreter is in a mount, also many at once", async () => {
    const script = "#!/mnt/shared/shell\necho $0\n";
    await sh(vm, "cp /bin/bash /mnt/shared/shell");
    await vm.run(`cat > /root/script; chmod +x /root/script`, { stdin: script });
    for (let round = 0; round < 3; round++) {
      await sh(vm, "echo 3 > /proc/sys/vm/drop_caches");
      const results = await Promise.all(
        Array.from({ length: 8 }, () => vm.exec(["/root/script"], { timeoutMs: 60_000 })),
      );
      expect(results.map(({ output }) => output)).toEqual(Array(8).fill("/root/script"));
    }
  });

  it("go on after a pause, in another program, and after a stop with what the guest wrote", async () => {
    await sh(vm, "echo kept > /mnt/shown/kept");
    await vm.pause();
    await vm.resume();
    expect(await sh(vm, "cat /mnt/shown/kept /mnt/shared/reply")).toBe("kept\nfrom the host");
    await vm.stop();
    expect(serverPids()).toEqual([]);
    await vm.start();
    expect(await sh(vm, "cat /mnt/shown/kept /mnt/shared/reply")).toBe("kept\nfrom the host");
  });

  it("give errors when the process that serves them is killed, and nothing hangs", async () => {
    const waiting = vm.run("cd /mnt/shared; while cat reply; do sleep 0.05; done", { timeoutMs: 60_000 });
    await vm.run("true");
    const [pid] = serverPids();
    // It stops to answer first: what waits for an answer must be let go.
    process.kill(pid!, "SIGSTOP");
    const stuck = vm.exec(["cat", "/mnt/shared/big"], { timeoutMs: 60_000 });
    expect((await vm.exec(["echo", "alive"])).output).toBe("alive");
    process.kill(pid!, "SIGKILL");
    expect((await stuck).ok).toBe(false);
    expect((await waiting).ok).toBe(true);
    expect(await sh(vm, "cat /mnt/shared/reply")).toContain("not connected");
    // Never an empty directory in its place.
    expect(await sh(vm, "echo x > /mnt/shared/lost")).toContain("not connected");
    expect(existsSync(join(shared, "lost"))).toBe(false);
    await vm.stop();
    await vm.start();
    expect(await sh(vm, "cat /mnt/shared/reply")).toBe("from the host");
  });

  it("are refused by name once a directory is gone, before anything is started", async () => {
    await vm.stop();
    renameSync(shared, `${shared}-away`);
    const gone = await rejection(vm.start());
    expect(gone).toMatchObject({ code: "MOUNT_FAILED", details: { hostPath: shared } });
    symlinkSync(outside, shared);
    expect(await rejection(vm.start())).toMatchObject({ code: "MOUNT_FAILED", details: { hostPath: shared } });
    rmSync(shared);
    renameSync(`${shared}-away`, shared);
    await vm.start();
    expect(await sh(vm, "cat /mnt/shared/reply")).toBe("from the host");
  });
});

describe("copies of a VM with mounts", () => {
  let vm: Vm;

  beforeAll(async () => {
    fill();
    vm = await SmolVM.create(state.config({ mounts, vmId: "original" }));
    await sh(vm, "echo before > /mnt/shown/file; echo before > /mnt/shared/file; sync");
  });

  beforeEach(() => writeFileSync(join(shown, "sub/host"), "host\n"));

  afterAll(() => vm?.delete());

  const look = "cat /mnt/shown/file /mnt/shown/sub/host /mnt/shared/file";

  it("mount them anew in a fork, and the original keeps its own", async () => {
    const child = handle((await vm.fork())[0]);
    try {
      expect(await sh(child, look)).toBe("before\nhost\nbefore");
      await sh(child, "echo child > /mnt/shown/file");
      expect(await sh(vm, look)).toBe("before\nhost\nbefore");
      expect(await sh(child, "cat /mnt/shown/file; grep -c smolvm-mount /proc/mounts")).toBe("child\n3");
      expect(serverPids()).toHaveLength(2);
    } finally {
      await child.delete();
    }
    expect(serverPids()).toHaveLength(1);
  });

  it("do so also while commands use them all the time", async () => {
    const busy = vm.run(
      "while [ ! -e /dev/shm/enough ]; do cat /mnt/shown/sub/tool > /mnt/shared/busy || exit 3; done",
    );
    const child = handle((await vm.fork())[0]);
    try {
      expect(await sh(child, look)).toBe("before\nhost\nbefore");
    } finally {
      await child.delete();
    }
    await sh(vm, "touch /dev/shm/enough");
    expect(await busy).toMatchObject({ exitCode: 0 });
  });

  it("mount them anew after a restore, and after going back to a checkpoint", async () => {
    const checkpoint = await vm.checkpoint();
    const snapshot = await vm.snapshot();
    try {
      const restored = await SmolVM.fromSnapshot(snapshot.id, { vmId: "restored" });
      expect(await sh(restored, look)).toBe("before\nhost\nbefore");
      await restored.delete();

      await sh(vm, "echo after > /mnt/shown/file; echo after > /mnt/shared/file");
      await vm.rewind(checkpoint);
      // What is on the host is not gone back to.
      expect(await sh(vm, look)).toBe("before\nhost\nafter");

      renameSync(shared, `${shared}-away`);
      const refused = await rejection(SmolVM.fromSnapshot(snapshot.id, { vmId: "refused" }));
      expect(refused).toMatchObject({ code: "MOUNT_FAILED", details: { hostPath: shared } });
      expect(await rejection(vm.rewind(checkpoint))).toMatchObject({ code: "MOUNT_FAILED" });
      expect((await vm.info()).status).toBe("running");
      renameSync(`${shared}-away`, shared);
      expect(await sh(vm, look)).toBe("before\nhost\nafter");
    } finally {
      await SmolVM.snapshots.delete(snapshot.id);
    }
  });
});

describe("mounts that cannot be", () => {
  it.each([
    ["mounts[0].hostPath", { hostPath: join(place, "nothing"), guestPath: "/mnt/a" }],
    ["mounts[0].hostPath", { hostPath: join(place, "shown/file"), guestPath: "/mnt/a" }],
    ["mounts[0].guestPath", { hostPath: shown, guestPath: "relative" }],
    ["mounts[0].guestPath", { hostPath: shown, guestPath: "/" }],
    ["mounts[0].guestPath", { hostPath: shown, guestPath: "/mnt/../etc" }],
    ["mounts[0].guestPath", { hostPath: shown, guestPath: "/proc/x" }],
  ])("are refused for %s before anything happens", async (field, mount) => {
    const refused = await rejection(SmolVM.create(state.config({ mounts: [mount] })));
    expect(refused).toMatchObject({ code: "INVALID_CONFIG", details: { field } });
  });

  it("fail the start with the guest's reason and leave nothing", async () => {
    const refused = await rejection(
      SmolVM.create(state.config({ mounts: [{ hostPath: shown, guestPath: "/etc/hostname/x" }] })),
    );
    expect(refused).toMatchObject({ code: "MOUNT_FAILED", details: { guestPath: "/etc/hostname/x" } });
    expect(serverPids()).toEqual([]);
  });

  it("go inside of one another, in whatever order they were asked for", async () => {
    const inner = { hostPath: join(shown, "sub"), guestPath: "/mnt/shared/inner", writable: true };
    const vm = await SmolVM.create(state.config({ vcpuCount: 1, mounts: [inner, mounts[1]!] }));
    try {
      await sh(vm, "echo in > /mnt/shared/inner/made");
      expect(onHost("shown/sub/made")).toBe("in\n");
    } finally {
      await vm.delete();
    }
  });
});
