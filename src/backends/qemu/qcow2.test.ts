import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { findProgram } from "../../host/find-program.js";
import { runProgram } from "../../host/process.js";
import { createQcow2Layer, encodeQcow2Layer } from "./qcow2.js";

const CLUSTER = 65_536;
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** One level-1 entry covers 8192 clusters. */
const L1_ENTRY_BYTES = 512 * MIB;

async function scratch(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-qcow2-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** The fields of the header, by the names of QEMU's docs/interop/qcow2.txt. */
function header(image: Buffer) {
  const u64 = (offset: number) => Number(image.readBigUInt64BE(offset));
  const nameOffset = u64(8);
  return {
    magic: image.subarray(0, 4).toString("latin1"),
    version: image.readUInt32BE(4),
    backingName: image.subarray(nameOffset, nameOffset + image.readUInt32BE(16)).toString("utf8"),
    clusterBits: image.readUInt32BE(20),
    sizeBytes: u64(24),
    cryptMethod: image.readUInt32BE(32),
    l1Entries: image.readUInt32BE(36),
    l1Offset: u64(40),
    refcountTableOffset: u64(48),
    refcountTableClusters: image.readUInt32BE(56),
    snapshots: image.readUInt32BE(60),
    snapshotsOffset: u64(64),
    incompatible: u64(72),
    compatible: u64(80),
    autoclear: u64(88),
    refcountOrder: image.readUInt32BE(96),
    headerBytes: image.readUInt32BE(100),
  };
}

const layer = { basePath: "/images/rootfs.ext4", baseFormat: "raw", sizeBytes: 2 * GIB };

describe("the bytes of a layer", () => {
  test("its header", () => {
    expect(header(encodeQcow2Layer(layer))).toEqual({
      magic: "QFI\xfb",
      version: 3,
      backingName: "/images/rootfs.ext4",
      clusterBits: 16,
      sizeBytes: 2 * GIB,
      cryptMethod: 0,
      l1Entries: 4,
      l1Offset: 3 * CLUSTER,
      refcountTableOffset: CLUSTER,
      refcountTableClusters: 1,
      snapshots: 0,
      snapshotsOffset: 0,
      incompatible: 0,
      compatible: 0,
      autoclear: 0,
      refcountOrder: 4,
      headerBytes: 104,
    });
  });

  test.each([
    ["raw", 3],
    ["qcow2", 5],
  ])("the extension that names the format %s, then the end of extensions", (baseFormat, length) => {
    const image = encodeQcow2Layer({ ...layer, baseFormat });
    expect(image.readUInt32BE(104)).toBe(0xe2792aca);
    expect(image.readUInt32BE(108)).toBe(length);
    expect(image.subarray(112, 112 + length).toString("latin1")).toBe(baseFormat);
    expect(image.subarray(112 + length, 120)).toEqual(Buffer.alloc(8 - length));
    expect(image.readBigUInt64BE(120)).toBe(0n);
    expect(Number(image.readBigUInt64BE(8))).toBe(128);
  });

  test.each([
    ["one sector", 512, 1, 1],
    ["one level-1 entry, exactly", L1_ENTRY_BYTES, 1, 1],
    ["one sector more", L1_ENTRY_BYTES + 512, 2, 1],
    ["1 TiB, the largest disk", 1024 * GIB, 2048, 1],
    ["a table of one cluster, exactly", 8192 * L1_ENTRY_BYTES, 8192, 1],
    ["a table of two clusters", 8192 * L1_ENTRY_BYTES + 512, 8193, 2],
  ])("tables of a disk of %s", (_what, sizeBytes, l1Entries, l1Clusters) => {
    const image = encodeQcow2Layer({ ...layer, sizeBytes });
    expect(header(image)).toMatchObject({ sizeBytes, l1Entries });
    const clusters = 3 + l1Clusters;
    expect(image.length).toBe(clusters * CLUSTER);
    // The reference count table names one block, in which each cluster of the file counts once.
    expect(Number(image.readBigUInt64BE(CLUSTER))).toBe(2 * CLUSTER);
    expect(image.subarray(CLUSTER + 8, 2 * CLUSTER).every((byte) => byte === 0)).toBe(true);
    const counts = Array.from({ length: clusters + 1 }, (_, index) => image.readUInt16BE(2 * CLUSTER + index * 2));
    expect(counts).toEqual([...Array(clusters).fill(1), 0]);
    // Nothing is allocated.
    expect(image.subarray(3 * CLUSTER).every((byte) => byte === 0)).toBe(true);
  });

  test("a base whose path does not fit is refused", () => {
    const fits = `/${"ü".repeat(511)}`;
    expect(header(encodeQcow2Layer({ ...layer, basePath: fits })).backingName).toBe(fits);
    expect(() => encodeQcow2Layer({ ...layer, basePath: `${fits}x` })).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field: "rootfsPath" }) }),
    );
  });
});

describe("the file of a layer", () => {
  test("is its owner's alone, and replaces nothing", async () => {
    const path = join(await scratch(), "disk.qcow2");
    await createQcow2Layer({ ...layer, path });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await readFile(path)).equals(encodeQcow2Layer(layer))).toBe(true);
    await expect(createQcow2Layer({ ...layer, path })).rejects.toMatchObject({ code: "EEXIST" });
  });

  // Not a skip: the bytes above stand alone, and a host without qemu-img has nothing to compare with.
  test("is what qemu-img takes it for, where there is one", async () => {
    const qemuImg = findProgram("qemu-img");
    if (qemuImg === undefined) return;
    const directory = await scratch();
    const basePath = join(directory, "base, of=it.ext4");
    await writeFile(basePath, Buffer.alloc(MIB, "base"));
    for (const sizeBytes of [512, 3 * MIB, L1_ENTRY_BYTES + 512, 1024 * GIB]) {
      const path = join(directory, `disk-${sizeBytes}`);
      await createQcow2Layer({ path, basePath, baseFormat: "raw", sizeBytes });
      const info = JSON.parse((await runProgram([qemuImg, "info", "--output=json", path])).stdout);
      expect(info).toMatchObject({
        "virtual-size": sizeBytes,
        format: "qcow2",
        "backing-filename": basePath,
        "backing-filename-format": "raw",
        "cluster-size": CLUSTER,
      });
      const check = JSON.parse((await runProgram([qemuImg, "check", "--output=json", path])).stdout);
      expect(check["check-errors"]).toBe(0);
      expect([check.leaks ?? 0, check.corruptions ?? 0]).toEqual([0, 0]);
    }
  });
});
