import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { loadModules } from "./kernel-modules.js";
import { modulesArchive } from "./modules-archive.js";

function moduleFile(depends: string): Buffer {
  return Buffer.from(`\x7fELF...license=GPL\0depends=${depends}\0name=x\0`);
}

async function modulesDirectory(): Promise<string> {
  const directory = await scratchDirectory();
  await mkdir(join(directory, "kernel"));
  await writeFile(join(directory, "kernel/virtio_net.ko.gz"), gzipSync(moduleFile("net_failover,virtio_ring")));
  await writeFile(join(directory, "kernel/net-failover.ko.gz"), gzipSync(moduleFile("failover")));
  await writeFile(join(directory, "kernel/failover.ko"), moduleFile(""));
  await writeFile(
    join(directory, "modules.order"),
    "kernel/virtio_net.ko\nkernel/net-failover.ko\nkernel/failover.ko\n",
  );
  await writeFile(join(directory, "modules.builtin"), "kernel/drivers/virtio/virtio_ring.ko\n");
  return directory;
}

test("puts dependencies first and leaves out what is built in", async () => {
  const modules = await loadModules(await modulesDirectory(), ["virtio_net", "failover"], ampleDeadline());
  expect(modules.map(({ name }) => name)).toEqual(["failover", "net_failover", "virtio_net"]);
});

test("names a module that the kernel does not have", async () => {
  const loading = loadModules(await modulesDirectory(), ["virtio_gpu"], ampleDeadline());
  await expect(loading).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { module: "virtio_gpu" } });
});

test("lists only the modules to load at boot, and holds each once", () => {
  const shared = { name: "vsock", data: Buffer.from("v") };
  const archive = modulesArchive([{ name: "failover", data: Buffer.from("f") }, shared], [shared]).toString("latin1");
  expect(archive).toContain("failover\nvsock\n");
  expect(archive.split("smolvm/modules.d/vsock.ko")).toHaveLength(2);
});
