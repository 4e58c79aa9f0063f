// What a VM was configured with arrives in the guest: sizes, arguments, environment, disks, kernels, ports.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SmolVM, type Vm, VmManager } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const state = testState();
/** Files of the default image. */
let image: { kernelPath: string; rootfsPath: string; modulesPath: string };
let work: string;

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), "smolvm-own-"));
  await using manager = new VmManager();
  const { kernelPath, rootfsPath } = await manager.images.resolve("debian");
  image = { kernelPath, rootfsPath, modulesPath: join(dirname(kernelPath), "modules.cpio") };
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

describe("one VM with everything", () => {
  const secret = "s3cr3t-4711-in-no-database";
  const envVars = { TOKEN: secret, LINES: "one\ntwo  three\n", QUOTED: `'"$HOME\\`, EMPTY: "" };
  let vm: Vm;

  beforeAll(async () => {
    vm = await SmolVM.create(
      state.config({
        vcpuCount: 3,
        memSizeMib: 448,
        diskSizeMib: 3072,
        bootArgs: "smolvm_test=42 quiet",
        envVars,
        accel: "auto",
      }),
    );
  });

  afterAll(() => vm?.delete());

  it("has the vCPUs, the memory and the disk size asked for", async () => {
    expect((await vm.exec(["nproc"])).output).toBe("3");
    const totalKib = Number(/MemTotal:\s+(\d+)/.exec((await vm.exec(["cat", "/proc/meminfo"])).stdout)?.[1]);
    expect(totalKib).toBeGreaterThan(352 * 1024);
    expect(totalKib).toBeLessThanOrEqual(448 * 1024);
    const sizeMib = Number((await vm.run("df --output=size -BM / | tail -1")).output.replace("M", ""));
    expect(sizeMib).toBeGreaterThan(2800);
    expect((await vm.run("blockdev --getsize64 /dev/vda")).output).toBe(String(3072 * 1024 * 1024));
    expect(await vm.info()).toMatchObject({ vcpuCount: 3, memSizeMib: 448, diskSizeMib: 3072 });
  });

  it("passes bootArgs to the kernel", async () => {
    expect((await vm.exec(["cat", "/proc/cmdline"])).output).toMatch(/ smolvm_test=42 quiet$/);
  });

  it("gives every command the environment, byte by byte, and a command's own wins", async () => {
    for (const [name, value] of Object.entries(envVars)) {
      expect((await vm.exec(["printenv", name])).stdout).toBe(`${value}\n`);
    }
    expect((await vm.run('printf "%s" "$LINES"')).stdout).toBe(envVars.LINES);
    expect((await vm.exec(["printenv", "TOKEN"], { env: { TOKEN: "other" } })).output).toBe("other");
    expect((await vm.exec(["printenv", "TOKEN"])).output).toBe(secret);
  });

  it("keeps environment values out of the database and of what others can read", async () => {
    for (const suffix of ["", "-wal", "-shm"]) {
      expect(readFileSync(state.databasePath + suffix).includes(secret)).toBe(false);
      expect(statSync(state.databasePath + suffix).mode & 0o077).toBe(0);
    }
    const { diskPath, pid } = await vm.info();
    expect(statSync(join(dirname(diskPath), "environment.json")).mode & 0o777).toBe(0o600);
    expect(readFileSync(`/proc/${pid}/cmdline`).includes(secret)).toBe(false);
  });

  it('has no device but lo with network "none"', async () => {
    expect((await vm.exec(["ls", "/sys/class/net"])).output).toBe("lo");
    expect((await vm.exec(["ip", "route"])).output).toBe("");
  });
});

describe("disks", () => {
  it("keeps the disk of a deleted VM that asked for it", async () => {
    const vm = await SmolVM.create(state.config({ retainDiskOnDelete: true }));
    await vm.run("echo marker-of-the-retained-disk > /root/marker");
    const { retainedDiskPath } = await vm.delete();
    expect(retainedDiskPath).toMatch(new RegExp(`^${join(state.stateDir, "retained")}/${vm.vmId}-\\d+\\.qcow2$`));
    // Deleted in order, so what was written a moment ago is there.
    expect(readFileSync(retainedDiskPath!).includes("marker-of-the-retained-disk")).toBe(true);
    expect(await SmolVM.list()).toEqual([]);
    rmSync(dirname(retainedDiskPath!), { recursive: true });
  });

  it("boots a kernel, an initrd and a disk of one's own, and writes to the disk itself when it is shared", async () => {
    const copy = (from: string, name: string) => {
      const to = join(work, name);
      execFileSync("cp", ["--sparse=always", from, to]);
      return to;
    };
    const config = state.config({
      kernelPath: copy(image.kernelPath, "my, kernel"),
      initrdPath: copy(image.modulesPath, "my initrd"),
      rootfsPath: copy(image.rootfsPath, "my, disk"),
      diskMode: "shared",
    });
    {
      await using vm = await SmolVM.create(config);
      expect(await vm.info()).toMatchObject({ image: null, diskMode: "shared", diskPath: config.rootfsPath });
      await vm.run("echo 1 > /root/counter");
      await vm.stop();
      await vm.start();
      expect((await vm.run("cat /root/counter; echo 2 > /root/counter")).output).toBe("1");
    }
    // The disk outlives its VM; the next one finds what the last one wrote, private layers too.
    await using second = await SmolVM.create({ ...config, diskMode: "isolated" });
    expect((await second.run("cat /root/counter; echo 3 > /root/counter; cat /root/counter")).stdout).toBe("2\n3\n");
    expect(basename((await second.info()).diskPath)).toBe("disk.qcow2");
    await second.delete();
    await using third = await SmolVM.create(config);
    expect((await third.run("cat /root/counter")).output).toBe("2");
  });
});

describe("ports", () => {
  it("lead from the host to the guest, are nobody else's meanwhile, and are free after delete", async () => {
    const vm = await SmolVM.create(state.config({ network: "user", ports: [{ guest: 8000 }] }));
    const port = (await vm.info()).ports[0]!.host;
    expect((await vm.info()).ports).toEqual([{ guest: 8000, host: port, hostAddress: "127.0.0.1" }]);
    await vm.run("mkdir /srv/web && echo from the guest > /srv/web/index.html");
    const serve = "cd /srv/web && exec setsid python3 -m http.server --bind 0.0.0.0 8000 > /dev/null 2>&1 &";
    await vm.run(serve, { orphans: "keep" });
    const page = await eventually(() => fetchText(port));
    expect(page).toBe("from the guest\n");

    await using manager = new VmManager();
    const taken = state.config({ network: "user", ports: [{ guest: 80, host: port }] });
    expect(await rejection(manager.create(taken))).toMatchObject({ code: "PORT_IN_USE", details: { hostPort: port } });
    await vm.stop();
    // Stopped, its port is still its own.
    expect(await rejection(manager.create(taken))).toMatchObject({ code: "PORT_IN_USE", details: { hostPort: port } });
    await vm.delete();
    expect(await fetchText(port)).toBeUndefined();
    const id = await manager.create(taken);
    await manager.delete(id);
  });

  it("say PORT_IN_USE for one that another program has, at create and at start, and leave nothing", async () => {
    await using manager = new VmManager();
    const busy = await listen(0);
    const { port } = busy.address() as AddressInfo;
    const config = state.config({ network: "user", ports: [{ guest: 80, host: port }] });
    expect(await rejection(manager.create(config))).toMatchObject({ code: "PORT_IN_USE", details: { hostPort: port } });
    expect(await manager.list()).toEqual([]);
    await close(busy);
    const id = await manager.create(config);
    const again = await listen(port);
    expect(await rejection(manager.start(id))).toMatchObject({ code: "PORT_IN_USE" });
    expect(await manager.info(id)).toMatchObject({ status: "error", failure: { code: "PORT_IN_USE" } });
    await close(again);
    await manager.start(id);
    await manager.delete(id);
  });
});

/** Nothing when nobody answers in time: passt accepts before the guest does. */
async function fetchText(port: number): Promise<string | undefined> {
  return fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(5_000) }).then(
    (response) => response.text().catch(() => undefined),
    () => undefined,
  );
}

async function listen(port: number): Promise<Server> {
  const server = createServer();
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function close(server: Server): Promise<void> {
  server.close();
  await once(server, "close");
}
