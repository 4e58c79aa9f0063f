// What cannot be made a snapshot of, and snapshots that nothing may be started from.

import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  watch,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { captures, expectNoCapturesAtTheEnd } from "../support/copies.js";
import { newerQemu } from "../support/other-qemu.js";
import { Program } from "../support/program.js";
import { SmolVM, type SnapshotInfo, type VMConfig, type Vm, VmManager } from "../support/smolvm.js";
import { testState, vmmPids } from "../support/state.js";
import { pause, rejection } from "../support/wait.js";

const NO_IDS = ["", ".", "..", "../x", "/etc", "a/b", "a\\b", "A", "-a", "a\0", " ", "x".repeat(65), 7, null];

const state = testState();
expectNoCapturesAtTheEnd(state);

let vm: Vm;
let taken: SnapshotInfo;
let directory: string;

beforeAll(async () => {
  vm = await SmolVM.create(state.config());
  taken = await vm.snapshot({ name: "good" });
  directory = join(state.stateDir, "captures", taken.id);
});

afterAll(async () => {
  await vm.delete();
  await SmolVM.snapshots.delete(taken.id);
});

/** Fails if anything was made of the VM that could not be started. */
async function refusedEarly(attempt: () => Promise<unknown>) {
  const seen: string[] = [];
  const watcher = watch(join(state.stateDir, "vms"), (_event, name) => seen.push(String(name)));
  const before = captures(state);
  try {
    const error = await rejection(attempt());
    await pause(20); // For the watcher.
    expect(seen).toEqual([]);
    expect(vmmPids(state.runtimeDir)).toHaveLength(1);
    expect((await SmolVM.list()).map(({ vmId }) => vmId)).toEqual([vm.vmId]);
    expect(captures(state)).toEqual(before);
    return error;
  } finally {
    watcher.close();
  }
}

describe("ids and names", () => {
  it.each(NO_IDS)("%j is no snapshot's id, name, or checkpoint", async (id) => {
    const wrong = id as string;
    for (const [field, call] of [
      ["snapshot", () => SmolVM.fromSnapshot(wrong)],
      ["snapshot", () => SmolVM.snapshots.get(wrong)],
      ["snapshot", () => SmolVM.snapshots.delete(wrong)],
      ["checkpoint", () => vm.rewind(wrong)],
      ["name", () => vm.snapshot({ name: wrong })],
    ] as const) {
      expect(await refusedEarly(call)).toMatchObject({ code: "INVALID_CONFIG", details: { field } });
    }
  });

  it("of snapshots that are not there, or are something else, are not found", async () => {
    const checkpoint = await vm.checkpoint();
    for (const id of ["snap-00000000", "never", checkpoint.id]) {
      for (const call of [SmolVM.fromSnapshot, SmolVM.snapshots.get, SmolVM.snapshots.delete]) {
        expect(await refusedEarly(() => call(id))).toMatchObject({
          code: "SNAPSHOT_NOT_FOUND",
          details: { snapshot: id },
        });
      }
    }
    for (const id of ["checkpoint-00000000", "good", taken.id]) {
      expect(await refusedEarly(() => vm.rewind(id))).toMatchObject({
        code: "SNAPSHOT_NOT_FOUND",
        details: { checkpoint: id },
      });
    }
  });

  it("name one snapshot each, also against ids", async () => {
    for (const name of ["good", taken.id]) {
      expect(await refusedEarly(() => vm.snapshot({ name }))).toMatchObject({
        code: "SNAPSHOT_EXISTS",
        details: { name },
      });
    }
    await using other = await Program.start();
    expect(await rejection(other.call("snapshot", vm.vmId, { name: "good" }))).toMatchObject({
      code: "SNAPSHOT_EXISTS",
    });
    expect((await SmolVM.snapshots.get("good")).id).toBe(taken.id);
  });
});

describe("a configuration for a restored VM", () => {
  it.each([
    ["vcpuCount", 4],
    ["memSizeMib", 512],
    ["image", "other"],
    ["diskMode", "shared"],
    ["diskSizeMib", 4096],
    ["kernelPath", "/boot/vmlinuz"],
    ["initrdPath", "/boot/initrd"],
    ["rootfsPath", "/boot/disk"],
    ["bootArgs", "quiet"],
    ["accel", "hvf"],
    ["network", "user"],
    ["vmId", "../x"],
    ["memory", 512],
  ])("is refused for %s", async (field, value) => {
    const error = await refusedEarly(() =>
      SmolVM.fromSnapshot("good", {
        [field]: value,
        ...(field === "diskMode" ? { rootfsPath: "/x" } : {}),
      } as VMConfig),
    );
    expect(error).toMatchObject({ code: "INVALID_CONFIG", details: { field } });
  });

  it("may be given another egress policy, and keeps its own otherwise", async () => {
    await using online = await SmolVM.create(state.config({ network: { mode: "user", egress: "off" } }));
    const { id } = await online.snapshot();
    await online.delete();
    const egress = { allow: ["203.0.113.7"] };
    await using opened = await SmolVM.fromSnapshot(id, { network: { mode: "user", egress } });
    expect(await opened.info()).toMatchObject({ network: "user", egress, rateLimitMbps: null });
    await using kept = await SmolVM.fromSnapshot(id, { network: { mode: "user", rateLimitMbps: 50 } });
    expect(await kept.info()).toMatchObject({ egress: "off", rateLimitMbps: 50 });
    await opened.delete();
    await kept.delete();
    await SmolVM.snapshots.delete(id);
  });

  it("may repeat what the snapshot says", async () => {
    const same = { vcpuCount: 2, image: "debian", diskMode: "isolated", backend: "qemu", bootArgs: "" } as const;
    await using restored = await SmolVM.fromSnapshot("good", state.config(same));
    expect((await restored.run("echo up")).output).toBe("up");
  });

  it("is refused for an id that is taken", async () => {
    const error = await refusedEarly(() => SmolVM.fromSnapshot("good", { vmId: vm.vmId }));
    expect(error).toMatchObject({ code: "VM_EXISTS" });
    expect((await vm.run("echo untouched")).output).toBe("untouched");
  });
});

describe("a VM", () => {
  it("that does not run has nothing to copy, and is told what helps", async () => {
    const before = captures(state);
    await using manager = new VmManager();
    const id = await manager.create(state.config());
    await using unmade = new SmolVM(state.config());
    await using made = await SmolVM.fromId(id);
    const refuse = async (one: Vm, status: string) => {
      for (const call of [() => one.snapshot(), () => one.fork(), () => one.checkpoint()]) {
        const error = await rejection(call());
        expect(error).toMatchObject({ code: "INVALID_STATE", details: { status, helps: "start()" } });
        expect(error.message).toContain("start()");
      }
    };
    await refuse(unmade, "created");
    await refuse(made, "created");
    await manager.start(id);
    await manager.stop(id);
    await refuse(made, "stopped");
    await manager.delete(id);
    expect(await rejection(made.snapshot())).toMatchObject({ code: "VM_NOT_FOUND" });
    expect(captures(state)).toEqual(before);
  });

  it("with a shared disk cannot be copied", async () => {
    const work = mkdtempSync(join(tmpdir(), "smolvm-shared-"));
    try {
      await using manager = new VmManager();
      const { rootfsPath } = await manager.images.resolve("debian");
      execFileSync("cp", ["--sparse=always", rootfsPath, join(work, "disk")]);
      await using shared = await SmolVM.create(state.config({ rootfsPath: join(work, "disk"), diskMode: "shared" }));
      for (const call of [() => shared.snapshot(), () => shared.fork(), () => shared.checkpoint()]) {
        expect(await rejection(call())).toMatchObject({ code: "UNSUPPORTED", details: { field: "diskMode" } });
      }
      expect((await shared.run("echo goes on")).output).toBe("goes on");
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
});

describe("a damaged snapshot", () => {
  const path = (name: string) => join(directory, name);

  /** Does something to a file and takes it back. */
  async function damaged(name: string, harm: (path: string) => Promise<void> | void) {
    const backup = `${path(name)}.backup`;
    const { atime, mtime } = statSync(path(name));
    execFileSync("cp", ["--sparse=always", path(name), backup]);
    chmodSync(path(name), 0o600);
    try {
      await harm(path(name));
      if (existsSync(path(name))) utimesSync(path(name), atime, mtime);
      return await refusedEarly(() => SmolVM.fromSnapshot("good"));
    } finally {
      rmSync(path(name), { force: true });
      execFileSync("mv", [backup, path(name)]);
      chmodSync(path(name), 0o400);
    }
  }

  const FILES = ["memory", "devices", "disk.qcow2", "environment.json"];

  it.each(FILES)("starts nothing: %s truncated, altered at the same time stamp, missing", async (name) => {
    const { size } = statSync(path(name));
    const shorter = await damaged(name, (file) => truncateSync(file, size - 1));
    expect(shorter).toMatchObject({
      code: "SNAPSHOT_FAILED",
      details: { path: path(name), expected: size, actual: size - 1 },
    });
    const altered = await damaged(name, (file) => flipByte(file, Math.floor(size / 2)));
    expect(altered).toMatchObject({ code: "SNAPSHOT_FAILED", details: { path: path(name), property: "sha256" } });
    const missing = await damaged(name, (file) => rmSync(file));
    expect(missing).toMatchObject({ code: "SNAPSHOT_FAILED", details: { path: path(name) } });
  });

  it("starts nothing: a manifest that is no JSON, is empty, names less or other files, or is missing", async () => {
    const manifest = JSON.parse(readFileSync(path("manifest.json"), "utf8"));
    const variants = [
      "{",
      "",
      JSON.stringify({ ...manifest, format: 2 }),
      JSON.stringify({ ...manifest, files: [] }),
      ...FILES.map((name) =>
        JSON.stringify({ ...manifest, files: manifest.files.filter((file: { name: string }) => file.name !== name) }),
      ),
      JSON.stringify({ ...manifest, files: [...manifest.files, { name: "../x", sizeBytes: 0, sha256: "" }] }),
    ];
    for (const text of variants) {
      const error = await damaged("manifest.json", (file) => writeFileSync(file, text));
      expect({ text, code: error.code }).toEqual({ text, code: "SNAPSHOT_FAILED" });
    }
    expect(await damaged("manifest.json", (file) => rmSync(file))).toMatchObject({ code: "SNAPSHOT_FAILED" });
  });

  it("is whole again when its files are", async () => {
    await using restored = await SmolVM.fromSnapshot("good");
    expect((await restored.run("echo up")).output).toBe("up");
  });

  it("can be deleted like any other", async () => {
    const { id } = await vm.snapshot({ name: "bad" });
    const bad = join(state.stateDir, "captures", id);
    rmSync(join(bad, "manifest.json"));
    copyFileSync("/etc/hostname", join(bad, "stray"));
    await SmolVM.snapshots.delete("bad");
    expect(existsSync(bad)).toBe(false);
  });
});

describe("another QEMU", () => {
  it("does not go on from it, nor from a checkpoint, and says which one made it", async () => {
    const checkpoint = await vm.checkpoint();
    using newer = newerQemu();
    await using program = await Program.start({ env: newer.env });
    const refused = await refusedEarly(() => program.call("restore", "good"));
    const expected = expect.stringContaining("QEMU emulator version");
    const actual = expect.stringContaining("99.0.0");
    expect(refused).toMatchObject({ code: "SNAPSHOT_FAILED", details: { id: taken.id, expected, actual } });
    const rewound = await refusedEarly(() => program.call("rewind", vm.vmId, checkpoint.id));
    expect(rewound).toMatchObject({ code: "SNAPSHOT_FAILED" });
    // Untouched: it runs on where it was.
    expect((await vm.info()).status).toBe("running");
    expect((await vm.run("echo up")).output).toBe("up");
    await vm.rewind(checkpoint);
  });
});

async function flipByte(path: string, offset: number): Promise<void> {
  const file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  await file.write(Buffer.from([byte[0]! ^ 1]), 0, 1, offset);
  await file.close();
}
