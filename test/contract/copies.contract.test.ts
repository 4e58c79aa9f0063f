// What every backend owes about machines that go on from files: frozen ones, and copies of running ones.

import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Backend, CaptureTarget, MachineSpec } from "../../src/backends/backend.js";
import { listenOn } from "../../src/network/listening-socket.js";
import { BACKEND_NAMES, backendFor, Deadline } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";
import { type Image, MachineGroup, soon } from "./machine-group.js";

/** How much of a disk is looked at at a time, in bytes. */
const PART_BYTES = 2 ** 20;
const state = testState();

for (const backend of new Set(BACKEND_NAMES.map(find))) {
  if (backend !== undefined) describe(backend.name, () => contract(backend));
}

function contract(backend: Backend) {
  const group = new MachineGroup(backend, state.config().accel as "tcg");
  const template = { withoutNetwork: undefined as Image | undefined, withNetwork: undefined as Image | undefined };

  beforeAll(async () => {
    template.withoutNetwork = await makeTemplate(undefined);
    template.withNetwork = await makeTemplate({ link: undefined, macAddress: "52:54:00:00:00:01" });
  });
  afterEach(() => group.endAll());
  afterAll(() => group.removeFiles());

  async function makeTemplate(network: MachineSpec["network"]): Promise<Image> {
    const machine = await group.start({ memory: { from: "recording", path: group.place() }, network });
    // On disk but not yet written there, in memory only, and on disk.
    await machine.sh("echo disk >/root/disk; sync; echo memory >/dev/shm/memory; echo cached >/root/cached");
    return group.freeze(machine);
  }

  const restore = (image: Image = template.withoutNetwork!, changes: Partial<MachineSpec> = {}) =>
    group.start({ ...image, ...changes });
  const READ_ALL = "cat /root/disk /dev/shm/memory /root/cached";

  it("freezes a machine to private files, which several machines at once go on from and do not change", async () => {
    const image = template.withoutNetwork!;
    const files = [image.memory.path, image.memory.devicesPath, ...image.layers];
    for (const file of files) expect(statSync(file).mode & 0o777).toBe(0o600);
    const before = files.map(digest);
    const machines = await Promise.all([restore(), restore(), restore()]);
    for (const [index, machine] of machines.entries()) {
      expect(await machine.sh(READ_ALL)).toBe("disk\nmemory\ncached");
      await machine.sh(`echo ${index} >/root/mine; echo ${index} >/dev/shm/mine; sync`);
    }
    for (const [index, machine] of machines.entries()) {
      await machine.sh("echo 3 >/proc/sys/vm/drop_caches");
      expect(await machine.sh("cat /root/mine /dev/shm/mine")).toBe(`${index}\n${index}`);
    }
    expect(files.map(digest)).toEqual(before);
  });

  it("has all lanes in a machine from an image, and passes on no descriptor but its own", async () => {
    const secret = openSync(group.place(), "a");
    const { spec, vmm } = await restore();
    closeSync(secret);
    const { GuestConnection } = await import("../support/smolvm.js");
    for (let lane = 0; lane < backend.features.laneCount; lane++) {
      const connection = await GuestConnection.open(await backend.dial(spec.runtimeDir, lane, soon()), soon());
      connection.close();
    }
    const status = readFileSync(`/proc/${vmm.pid}/status`, "utf8");
    expect(status).toMatch(/^Seccomp:\s+2$/m);
    const { memory, layers } = template.withoutNetwork!;
    const { disk } = group.source({ spec, vmm });
    const logs = ["console.log", "messages.log"].map((file) => join(spec.runtimeDir, file));
    const own = [...logs, memory.path, memory.devicesPath, ...layers, disk.path, disk.basePath];
    const files = readdirSync(`/proc/${vmm.pid}/fd`)
      .map((fd) => readlinkSync(`/proc/${vmm.pid}/fd/${fd}`))
      .filter((file) => file.startsWith("/") && !file.startsWith("/dev/") && !file.startsWith("/memfd:"));
    expect(files).toContain(disk.path);
    expect(files.filter((file) => !own.includes(file))).toEqual([]);
  });

  it("copies a machine that runs; both go on, each for itself", async () => {
    const original = await restore();
    await original.sh("head -c 20000000 /dev/urandom >/dev/shm/big; cp /dev/shm/big /root/big; echo late >/root/late");
    const sums = await original.sh("sha256sum </dev/shm/big");
    const copy = await group.capture(original);
    expect(copy.pauseMs).toBeGreaterThan(0);
    for (const file of [copy.memory.path, copy.memory.devicesPath, copy.layers[0]!]) {
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
    await original.sh("echo after >/root/after; echo after >/root/late; rm /dev/shm/big; sync");
    const [one, two] = await Promise.all([restore(copy), restore(copy)]);
    for (const machine of [one, two]) {
      expect(await machine.sh("sha256sum </dev/shm/big")).toBe(sums);
      await machine.sh("sync; echo 3 >/proc/sys/vm/drop_caches");
      expect(await machine.sh("sha256sum </root/big; cat /root/late; ls /root")).not.toContain("after");
      expect(await machine.sh("sha256sum </root/big")).toBe(sums);
      expect(await machine.sh(READ_ALL)).toBe("disk\nmemory\ncached");
    }
    await one.sh("echo one >/root/late; sync");
    expect(await two.sh("cat /root/late")).toBe("late");
    expect(await original.sh("cat /root/late")).toBe("after");
  });

  it("copies a machine that booted, and a copy of a copy", async () => {
    const original = await group.start({ vcpuCount: 1 });
    await original.sh("echo first >/root/first; echo first >/dev/shm/first");
    const copy = await restore(await group.capture(original), { vcpuCount: 1 });
    await copy.sh("echo second >/root/second; echo second >/dev/shm/second; sync");
    const grandchild = await restore(await group.capture(copy), { vcpuCount: 1 });
    await grandchild.sh("sync; echo 3 >/proc/sys/vm/drop_caches");
    expect(await grandchild.sh("cat /root/first /root/second /dev/shm/first /dev/shm/second")).toBe(
      "first\nsecond\nfirst\nsecond",
    );
    expect(await original.sh("ls /root /dev/shm")).not.toContain("second");
  });

  it("copies zeros that hide what is below, on disk and in memory", async () => {
    const original = await restore();
    // Where the base has data that the layer will say is zero: a page in the middle of a program, found by what it holds.
    const page = Buffer.from(
      await original.sh("dd if=/usr/bin/python3 bs=4096 skip=512 count=1 2>/dev/null | base64 -w0"),
      "base64",
    );
    const block = blockOf(page, group.source(original).disk.basePath);
    const size = Number(await original.sh("stat -c %s /usr/bin/perl"));
    await original.sh(`dd if=/dev/zero of=/usr/bin/perl bs=${size} count=1 conv=notrunc`);
    await original.sh("rm $(readlink -f /usr/bin/python3); sync; fstrim /; sync");
    await original.sh("head -c 8000000 /dev/urandom >/dev/shm/z; rm /dev/shm/z; head -c 8000000 /dev/zero >/dev/shm/z");
    const copy = await restore(await group.capture(original));
    for (const machine of [original, copy]) {
      await machine.sh("sync; echo 3 >/proc/sys/vm/drop_caches");
      await machine.sh(`cmp -n ${size} /usr/bin/perl /dev/zero && cmp -n 8000000 /dev/shm/z /dev/zero`);
      await machine.sh(`dd if=/dev/vda bs=4096 skip=${block} count=1 2>/dev/null | cmp -n 4096 - /dev/zero`);
    }
  });

  it("copies a machine that writes all the time, again and again", async () => {
    const original = await restore();
    const busy = original.sh(
      "for i in $(seq 1 200); do head -c 300000 /dev/urandom >/root/f$i; sha256sum /root/f$i >>/root/sums; sync; done",
    );
    busy.catch(() => {});
    await eventually(async () => (Number(await original.sh("cat /root/sums | wc -l")) > 2 ? true : undefined));
    const copies = [];
    for (let count = 0; count < 3; count++) {
      await pause(300);
      copies.push(await group.capture(original));
    }
    for (const copy of copies) {
      const machine = await restore(copy);
      await machine.sh("sync; echo 3 >/proc/sys/vm/drop_caches; head -n -1 /root/sums | sha256sum --check --quiet");
      await group.end(machine);
    }
  });

  it("leaves a paused machine paused, and its copy runs", async () => {
    const original = await restore();
    await backend.pause(original.spec.runtimeDir, soon());
    const answer = original.sh("echo answer");
    const copy = await restore(await group.capture(original));
    expect(await copy.sh("cat /root/disk")).toBe("disk");
    expect(await Promise.race([answer, pause(500).then(() => "silence")])).toBe("silence");
    await backend.resume(original.spec.runtimeDir, soon());
    expect(await answer).toBe("answer");
  });

  const NAMES = ["memoryPath", "devicesPath", "layerPath"] as const;

  it.each(NAMES)("touches nothing when there is a file already (%s)", async (name) => {
    const original = await restore();
    const target = group.target();
    writeFileSync(target[name], "mine");
    const failure = await rejection(backend.capture(group.source(original), target, soon()));
    expect(failure).toMatchObject({ code: "STORAGE_FAILED" });
    expectNothing({ ...target, [name]: "/nonexistent" });
    expect(readFileSync(target[name], "utf8")).toBe("mine");
    expect(await original.sh("cat /root/disk")).toBe("disk");
  });

  it("leaves no file and a machine that runs after a failure or an abort, and copies it then", async () => {
    const original = await restore();
    await original.sh("head -c 50000000 /dev/urandom >/dev/shm/big; head -c 30000000 /dev/urandom >/root/big");
    const source = group.source(original);
    const openFiles = () => readdirSync(`/proc/${original.vmm.pid}/fd`).length;
    const before = openFiles();
    const broken = { ...source, copierPath: "/nonexistent/program" };
    const target = group.target();
    expect(await rejection(backend.capture(broken, target, soon()))).toMatchObject({ code: "HOST_UNSUPPORTED" });
    expectNothing(target);
    // At many moments: before, in and after the time that it stands still.
    for (const afterMs of [1, 5, 10, 20, 30, 45, 60, 80, 100]) {
      const deadline = Deadline.after(30_000, AbortSignal.timeout(afterMs));
      const outcome = await backend.capture(source, target, deadline).then(
        () => "done",
        (error: { code: string }) => error.code,
      );
      expect(["done", "ABORTED"]).toContain(outcome);
      if (outcome === "done") break;
      expectNothing(target);
      expect(await original.sh("cat /root/disk")).toBe("disk");
    }
    const copy = await restore(await group.capture(original));
    expect(await copy.sh("cat /root/disk")).toBe("disk");
    expect(await original.sh("cat /root/disk")).toBe("disk");
    await eventually(() => (openFiles() <= before + 1 ? true : undefined));
  });

  it("freezes nothing to a file that exists", async () => {
    const machine = await group.start({ memory: { from: "recording", path: group.place() } });
    const place = group.place();
    writeFileSync(place, "mine");
    const failure = await rejection(backend.freeze(machine.spec.runtimeDir, place, soon()));
    expect(failure).toMatchObject({ code: "STORAGE_FAILED" });
    expect(readFileSync(place, "utf8")).toBe("mine");
    expect(await machine.sh("echo runs")).toBe("runs");
  });

  it("refuses to record to a file that exists, and to go on from one that does not", async () => {
    const path = group.place();
    writeFileSync(path, "mine");
    const recording = group.start({ memory: { from: "recording", path } });
    expect(await rejection(recording)).toMatchObject({ code: "STORAGE_FAILED" });
    const memory = { ...template.withoutNetwork!.memory, devicesPath: "/nonexistent/devices" };
    expect(await rejection(restore(template.withoutNetwork, { memory }))).toMatchObject({ code: "STORAGE_FAILED" });
  });

  it("ends, and does not run on, when image and machine do not fit", async () => {
    const { spec } = await restore();
    expect(backend.shapeOf({ ...spec, network: { link: undefined, macAddress: "52:54:00:00:00:01" } })).not.toBe(
      backend.shapeOf(spec),
    );
    const misfit = restore(template.withNetwork);
    expect(await rejection(misfit)).toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  it("gives a machine from an image a network that was not there before", async () => {
    const socketPath = `${group.place()}.sock`;
    const seen: Buffer[] = [];
    const socket = await listenOn(socketPath, `${socketPath}.new`);
    const macAddress = "52:54:00:00:00:02";
    let peer: Socket | undefined;
    try {
      const network = { link: { kind: "socket" as const, fd: socket.fd }, macAddress };
      const machine = await restore(template.withNetwork, { network }).finally(() => socket.handOver());
      const connectPeer = () => {
        peer = createConnection(socketPath).on("error", () => {});
        peer.on("data", (bytes) => {
          seen.push(bytes);
          peer?.write(arpAnswer());
        });
      };
      connectPeer();
      // Nothing is announced before the guest knows who it is.
      await pause(300);
      expect(seen).toEqual([]);
      expect(await machine.sh("cat /sys/class/net/eth0/address")).toBe("52:54:00:00:00:01");
      await machine.sh("ip link set eth0 address 52:54:00:00:00:02 && ip link set eth0 up");
      await machine.sh("ip address add 10.9.0.2/24 dev eth0 && ip neighbour flush dev eth0");
      const asking = "echo x >/dev/udp/10.9.0.1/9 2>/dev/null; ip neighbour show 10.9.0.1";
      const neighbour = await eventually(async () => {
        const line = await machine.sh(`bash -c '${asking}'`);
        return line.includes("lladdr") ? line : undefined;
      });
      expect(neighbour).toContain("02:00:00:00:00:99");
      expect(Buffer.concat(seen).includes(Buffer.from("525400000002", "hex"))).toBe(true);
      // Whoever carries its frames may go, and another one may come.
      peer?.destroy();
      seen.length = 0;
      await machine.sh("ip neighbour flush dev eth0");
      connectPeer();
      const again = await eventually(async () => {
        const line = await machine.sh(`bash -c '${asking}'`);
        return line.includes("lladdr") ? line : undefined;
      });
      expect(again).toContain("02:00:00:00:00:99");
      // A copy has the network device too.
      const copy = await restore(await group.capture(machine), { network: { link: undefined, macAddress } });
      expect(await copy.sh("cat /sys/class/net/eth0/address")).toBe("52:54:00:00:00:02");
    } finally {
      peer?.destroy();
    }
  });
}

/** 10.9.0.1 is at 02:00:00:00:00:99, behind the length that QEMU's `-netdev stream` puts before each frame. */
function arpAnswer(): Buffer {
  const frame = Buffer.from(
    "525400000002" +
      "020000000099" +
      "0806" +
      "0001080006040002" +
      "020000000099" +
      "0a090001" +
      "525400000002" +
      "0a090002",
    "hex",
  );
  const length = Buffer.alloc(4);
  length.writeUInt32BE(frame.length);
  return Buffer.concat([length, frame]);
}

/** The number of the block of a raw disk that holds a page. */
function blockOf(page: Buffer, diskPath: string): number {
  const disk = openSync(diskPath, "r");
  const part = Buffer.alloc(PART_BYTES);
  try {
    for (let at = 0; ; at += PART_BYTES) {
      const size = readSync(disk, part, 0, PART_BYTES, at);
      if (size === 0) throw new Error("The page is not on the disk");
      for (let offset = 0; offset < size; offset += page.length) {
        if (page.compare(part, offset, offset + page.length) === 0) return (at + offset) / page.length;
      }
    }
  } finally {
    closeSync(disk);
  }
}

function digest(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function expectNothing(target: CaptureTarget): void {
  for (const path of Object.values(target)) expect(existsSync(path)).toBe(false);
}

function find(name: string): Backend | undefined {
  try {
    return backendFor(name);
  } catch {
    return undefined;
  }
}
