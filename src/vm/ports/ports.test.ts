// What is done with a VM's ports, with a made-up VMM and a program in the place of portd.

import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createConnection, createServer } from "node:net";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { endProcessGroup } from "../../host/end-process.js";
import type { ProcessIdentity } from "../../host/process-identity.js";
import { scratchDirectory } from "../../storage/testing/scratch-store.js";
import type { VmStatus } from "../../storage/vm-store.js";
import { findVm } from "../claim.js";
import type { VmContext } from "../context.js";
import { liveProcess } from "../live-process.js";
import { fakeContext, recordVm, sleepingProcess } from "../testing/fake-context.js";
import { vmInfo } from "../vm-info.js";
import { closePort, exposePort, listPorts } from "./change-ports.js";
import { ensurePorts } from "./ensure-ports.js";
import { HeldPorts } from "./held-ports.js";
import { PortControl } from "./port-control.js";
import { revivePorts } from "./revive-ports.js";
import { portControlPath, startPorts } from "./start-ports.js";
import { STARTS_FILE, writeFakePortd } from "./testing/fake-portd.js";

const helper = vi.hoisted(() => ({ path: "" }));
vi.mock("../helper-programs.js", () => ({ helperPath: () => helper.path, helperLocation: () => helper.path }));

const ADDRESS = "127.0.0.1";
const LIMIT_MS = 20_000;
const soon = () => Deadline.after(LIMIT_MS);
const bounds = { timeoutMs: LIMIT_MS };
const asked = (guestPort: number, hostPort = 0, hostAddress = ADDRESS) => ({ guestPort, hostPort, hostAddress });

let ctx: VmContext;
let runtimeDir: string;

beforeEach(async () => {
  ctx = fakeContext();
  helper.path = writeFakePortd(scratchDirectory());
  runtimeDir = await makeVm("a1", "running");
});

/** A VM with a VMM, as far as its ports need one. @returns Its directory of sockets. */
async function makeVm(id: string, status: VmStatus): Promise<string> {
  await recordVm(ctx, { id, status, spec: { guestNumber: 7 } });
  const directory = join(ctx.paths.runtimeDir, id);
  if (status !== "running" && status !== "paused") return directory;
  mkdirSync(directory, { recursive: true });
  ctx.store.resources.plan(id, [
    { kind: "runtime", name: directory },
    { kind: "process", name: "vmm" },
  ]);
  ctx.store.resources.setProcess(id, "vmm", await sleepingProcess("qemu-system-x86_64", "/"));
  for (const lane of [0, 1]) {
    const server = createServer();
    server.listen(join(directory, `lane${lane}`));
    await once(server, "listening");
    onTestFinished(() => void server.close());
  }
  onTestFinished(async () => {
    const portd = await liveProcess(ctx, id, "ports");
    if (portd !== undefined) await endProcessGroup(portd);
  });
  return directory;
}

const portd = () => liveProcess(ctx, "a1", "ports") as Promise<ProcessIdentity>;
const starts = () => readFileSync(join(runtimeDir, STARTS_FILE), "utf8").trimEnd().split("\n");
const control = () => new PortControl("a1", portControlPath(runtimeDir));
const row = () => findVm(ctx, "a1");

/** What is heard from a port of the host: the guest's port that it leads to. */
async function hear(hostPort: number, host = ADDRESS): Promise<string> {
  const client = createConnection({ port: hostPort, host });
  try {
    const [data] = (await once(client, "data")) as [Buffer];
    return String(data);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "";
  } finally {
    client.destroy();
  }
}

async function busyPort(): Promise<number> {
  const server = createServer().listen({ host: ADDRESS, port: 0 });
  onTestFinished(() => void server.close());
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

describe("exposing a port", () => {
  test("starts one process for all of them, however many ask at once", async () => {
    const exposed = await Promise.all([1, 2, 3, 4].map((port) => exposePort(ctx, "a1", asked(port), bounds)));
    expect(new Set(exposed.map(({ hostPort }) => hostPort)).size).toBe(4);
    for (const { guestPort, hostPort } of exposed) expect(await hear(hostPort)).toBe(String(guestPort));
    expect(starts()).toHaveLength(1);
    expect(new Set(await listPorts(ctx, "a1"))).toEqual(new Set(exposed));
    expect(vmInfo(ctx, row()).ports).toHaveLength(4);
    expect(row()).toMatchObject({ status: "running", move: undefined });
    // Its lane is its own, and nothing keeps this program from ending.
    expect(ctx.store.lanes.list("a1")).toEqual([{ lane: 0, holder: await portd() }]);
  });

  test("gives it a directory that only it can use, and hands over what it needs", async () => {
    await exposePort(ctx, "a1", asked(80), bounds);
    const { mode, uid } = statSync(join(runtimeDir, "ports"));
    const isRoot = process.getuid?.() === 0;
    expect([mode & 0o777, uid]).toEqual([0o700, isRoot ? 65_534 : process.getuid?.()]);
    const user = isRoot ? " -runas 65534:65534" : "";
    expect(starts()).toEqual([`-lane-fd 3 -ready-fd 4 -control control.sock${user}`]);
  });

  test("twice the same is one, and another guest port in its place is refused", async () => {
    const { hostPort } = await exposePort(ctx, "a1", asked(80), bounds);
    expect(await exposePort(ctx, "a1", asked(80, hostPort), bounds)).toEqual(asked(80, hostPort));
    expect(await listPorts(ctx, "a1")).toHaveLength(1);
    await expect(exposePort(ctx, "a1", asked(81, hostPort), bounds)).rejects.toMatchObject({ code: "PORT_IN_USE" });
    expect(await hear(hostPort)).toBe("80");
    expect(await exposePort(ctx, "a1", asked(81, hostPort, "127.0.0.2"), bounds)).toMatchObject({ hostPort });
    expect(await hear(hostPort, "127.0.0.2")).toBe("81");
  });

  test("is refused where a program has the port, or a VM that is stopped", async () => {
    const busy = await busyPort();
    await expect(exposePort(ctx, "a1", asked(80, busy), bounds)).rejects.toMatchObject({
      code: "PORT_IN_USE",
      details: { hostAddress: ADDRESS, hostPort: busy },
    });
    await makeVm("b2", "stopped");
    const [free] = [await freePort()];
    ctx.store.ports.reserve("b2", [{ ...asked(8000, free), origin: "config" }]);
    for (const address of [ADDRESS, "0.0.0.0"])
      await expect(exposePort(ctx, "a1", asked(80, free, address), bounds)).rejects.toMatchObject({
        code: "PORT_IN_USE",
        message: `Cannot forward ${address}:${free}: it leads to port 8000 of VM "b2"`,
      });
    expect([await hear(free), await listPorts(ctx, "a1"), await control().list(soon())]).toEqual([
      "ECONNREFUSED",
      [],
      [],
    ]);
  });

  test("that chooses the port of a stopped VM chooses again", async () => {
    const reserve = vi.spyOn(ctx.store.ports, "reserve");
    const { SmolVMError } = await import("../../errors/smolvm-error.js");
    reserve.mockImplementationOnce(() => {
      throw new SmolVMError("PORT_IN_USE", "it belongs to another VM");
    });
    const { hostPort } = await exposePort(ctx, "a1", asked(80), bounds);
    expect(reserve).toHaveBeenCalledTimes(2);
    expect(await control().list(soon())).toEqual([asked(80, hostPort)]);
  });

  test("that cannot be recorded is closed again", async () => {
    vi.spyOn(ctx.store.ports, "reserve").mockImplementation(() => {
      throw new TypeError("full");
    });
    await expect(exposePort(ctx, "a1", asked(80), bounds)).rejects.toThrow("full");
    expect([await control().list(soon()), ctx.store.ports.list("a1")]).toEqual([[], []]);
    expect(row()).toMatchObject({ status: "running", move: undefined });
  });

  test("is refused for an address of another host, and beyond a number", async () => {
    await expect(exposePort(ctx, "a1", asked(80, 0, "192.0.2.1"), bounds)).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "hostAddress", value: '"192.0.2.1"' },
    });
    const many = Array.from(
      { length: 64 },
      (_, index) => ({ ...asked(80, 20_000 + index, "127.0.0.9"), origin: "expose" }) as const,
    );
    ctx.store.ports.reserve("a1", many);
    await expect(exposePort(ctx, "a1", asked(80), bounds)).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "guestPort" },
    });
    expect(await exposePort(ctx, "a1", asked(80, 20_000, "127.0.0.9"), bounds)).toMatchObject({ hostPort: 20_000 });
  });

  test.each([
    ["created", "start()"],
    ["stopped", "start()"],
    ["error", "start()"],
    ["paused", "resume()"],
  ] as const)("is refused in state %s, naming %s", async (status, helps) => {
    await makeVm("b2", status);
    await expect(exposePort(ctx, "b2", asked(80), bounds)).rejects.toMatchObject({
      code: "INVALID_STATE",
      message: expect.stringContaining(`Cannot expose a port of VM "b2"`),
      details: { helps },
    });
    expect(await liveProcess(ctx, "b2", "ports")).toBeUndefined();
  });

  test("of a process that cannot start says why, and leaves nothing", async () => {
    writeFileSync(join(runtimeDir, "fails"), "");
    await expect(exposePort(ctx, "a1", asked(80), bounds)).rejects.toMatchObject({
      code: "NETWORK_FAILED",
      message: expect.stringContaining("no guest here"),
      details: { exitCode: 3 },
    });
    expect([ctx.store.lanes.list("a1"), ctx.store.ports.list("a1")]).toEqual([[], []]);
    expect(ctx.store.resources.list("a1").map(({ name }) => name)).not.toContain("ports");
  });

  test("ends with its signal and its time", async () => {
    const aborted = AbortSignal.abort();
    await expect(exposePort(ctx, "a1", asked(80), { signal: aborted })).rejects.toMatchObject({ code: "ABORTED" });
    await expect(exposePort(ctx, "gone", asked(80), bounds)).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
  });
});

async function freePort(): Promise<number> {
  const held = new HeldPorts();
  const { hostPort } = await held.hold({ hostAddress: ADDRESS, hostPort: 0 });
  held.close();
  return hostPort;
}

describe("closing a port", () => {
  test("frees it; what is not there is no error, and that of the SSH server stays", async () => {
    const { hostPort } = await exposePort(ctx, "a1", asked(80), bounds);
    const port = { hostAddress: ADDRESS, hostPort };
    expect(await closePort(ctx, "a1", { ...port, hostAddress: "127.0.0.2" }, bounds)).toBe(false);
    expect(await closePort(ctx, "a1", port, bounds)).toBe(true);
    expect([await hear(hostPort), await listPorts(ctx, "a1")]).toEqual(["ECONNREFUSED", []]);
    expect(await closePort(ctx, "a1", port, bounds)).toBe(false);
    ctx.store.ports.reserve("a1", [{ ...asked(22, hostPort), origin: "ssh" }]);
    expect(await listPorts(ctx, "a1")).toEqual([]);
    await expect(closePort(ctx, "a1", port, bounds)).rejects.toMatchObject({ details: { field: "hostPort" } });
    await ensurePorts(ctx, "a1", soon());
  });

  test.each(["created", "stopped", "error", "paused"] as const)("works in state %s", async (status) => {
    await makeVm("b2", status);
    ctx.store.ports.reserve("b2", [{ ...asked(80, 20_000), origin: "config" }]);
    expect(await closePort(ctx, "b2", asked(80, 20_000), bounds)).toBe(true);
    expect(await listPorts(ctx, "b2")).toEqual([]);
    expect(findVm(ctx, "b2")).toMatchObject({ status, move: undefined });
  });

  test("works when the process that serves it is dead", async () => {
    const { hostPort } = await exposePort(ctx, "a1", asked(80), bounds);
    await endProcessGroup(await portd());
    expect(await closePort(ctx, "a1", { hostAddress: ADDRESS, hostPort }, bounds)).toBe(true);
    expect(starts()).toHaveLength(1);
  });
});

describe("ports that are on record", () => {
  test("are served again, the very same, once the process was killed", async () => {
    const exposed = [await exposePort(ctx, "a1", asked(80), bounds), await exposePort(ctx, "a1", asked(81), bounds)];
    const first = await portd();
    await ensurePorts(ctx, "a1", soon());
    expect(await portd()).toEqual(first);
    await endProcessGroup(first);
    expect(await hear(exposed[0]!.hostPort)).toBe("ECONNREFUSED");
    await Promise.all([1, 2, 3].map(() => ensurePorts(ctx, "a1", soon())));
    for (const { guestPort, hostPort } of exposed) expect(await hear(hostPort)).toBe(String(guestPort));
    expect(starts()).toHaveLength(2);
    expect(starts()[1]).toMatch(/-listener 5:80 -listener 6:81$/);
    expect(ctx.store.lanes.list("a1")).toEqual([{ lane: 0, holder: await portd() }]);
  });

  test("say so when somebody else got one meanwhile, and are no reason to refuse the guest", async () => {
    const port = await busyPort();
    ctx.store.ports.reserve("a1", [{ ...asked(80, port), origin: "config" }]);
    await revivePorts(ctx, row(), false, soon());
    await revivePorts(ctx, row(), false, soon());
    expect(row().warnings).toEqual([`Some ports are not served: ${ADDRESS}:${port}: something listens on it`]);
    await ensurePorts(ctx, "a1", soon());
    expect(await closePort(ctx, "a1", asked(80, port), bounds)).toBe(true);
    expect(row().warnings).toEqual([]);
  });

  test.each(["that was killed", "that runs"])(
    "but taken do not get in the way of others, of a process %s",
    async (which) => {
      const other = await exposePort(ctx, "a1", asked(80), bounds);
      const taken = await busyPort();
      ctx.store.ports.reserve("a1", [{ ...asked(81, taken), origin: "expose" }]);
      if (which === "that was killed") await endProcessGroup(await portd());
      expect(await listPorts(ctx, "a1")).toEqual([other, asked(81, taken)]);
      const third = await exposePort(ctx, "a1", asked(82), bounds);
      expect([await hear(other.hostPort), await hear(third.hostPort)]).toEqual(["80", "82"]);
      expect(row().warnings).toEqual([`Some ports are not served: ${ADDRESS}:${taken}: something listens on it`]);
      await expect(exposePort(ctx, "a1", asked(81, taken), bounds)).rejects.toMatchObject({
        code: "PORT_IN_USE",
        details: { hostPort: taken },
      });
      expect(await listPorts(ctx, "a1")).toHaveLength(3);
      expect(await closePort(ctx, "a1", other, bounds)).toBe(true);
      expect(row().warnings).toHaveLength(1);
      expect(await closePort(ctx, "a1", asked(81, taken), bounds)).toBe(true);
      expect(row().warnings).toEqual([]);
      expect(await listPorts(ctx, "a1")).toEqual([third]);
    },
  );

  test("are served again by whoever lists them once they are free", async () => {
    const server = createServer().listen({ host: ADDRESS, port: 0 });
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    ctx.store.ports.reserve("a1", [{ ...asked(80, port), origin: "expose" }]);
    await listPorts(ctx, "a1");
    await new Promise((done) => server.close(done));
    expect(await hear(port)).toBe("ECONNREFUSED");
    await listPorts(ctx, "a1");
    expect([await hear(port), row().warnings]).toEqual(["80", []]);
  });

  test("are an error when it is that of the SSH server, for those who need it", async () => {
    const taken = await busyPort();
    const other = await freePort();
    ctx.store.ports.reserve("a1", [
      { ...asked(22, taken), origin: "ssh" },
      { ...asked(80, other), origin: "config" },
    ]);
    for (let time = 0; time < 2; time++) {
      await expect(ensurePorts(ctx, "a1", soon())).rejects.toMatchObject({ code: "PORT_IN_USE" });
      await expect(revivePorts(ctx, row(), true, soon())).rejects.toMatchObject({ code: "PORT_IN_USE" });
      await revivePorts(ctx, row(), false, soon());
    }
    expect(await hear(other)).toBe("80");
  });

  test("say what a start that fails says, until it works", async () => {
    ctx.store.ports.reserve("a1", [{ ...asked(80, await freePort()), origin: "config" }]);
    writeFileSync(join(runtimeDir, "fails"), "");
    await revivePorts(ctx, row(), false, soon());
    expect(row().warnings).toEqual([expect.stringMatching(/^The ports are not served: .*no guest here/)]);
    rmSync(join(runtimeDir, "fails"));
    await revivePorts(ctx, row(), false, soon());
    expect(row().warnings).toEqual([]);
  });

  test("are what is served, whatever a program that died in between has left", async () => {
    const { hostPort } = await exposePort(ctx, "a1", asked(80), bounds);
    const stray = await control().listen(asked(99), soon());
    const lost = await freePort();
    ctx.store.ports.reserve("a1", [{ ...asked(82, lost), origin: "expose" }]);
    const other = await exposePort(ctx, "a1", asked(81), bounds);
    expect([await hear(stray), await hear(lost), await hear(hostPort), await hear(other.hostPort)]).toEqual([
      "ECONNREFUSED",
      "82",
      "80",
      "81",
    ]);
  });

  test("are not touched while the VM does not run, and nothing is started for none", async () => {
    await makeVm("b2", "stopped");
    ctx.store.ports.reserve("b2", [{ ...asked(80, 20_000), origin: "config" }]);
    await ensurePorts(ctx, "b2", soon());
    expect(await listPorts(ctx, "b2")).toEqual([asked(80, 20_000)]);
    await ensurePorts(ctx, "a1", soon());
    expect(existsSync(join(runtimeDir, STARTS_FILE))).toBe(false);
  });
});

describe("a start", () => {
  test("hands over the ports that are held, and holds the others itself", async () => {
    const held = new HeldPorts();
    const { hostPort: first } = await held.hold({ hostAddress: ADDRESS, hostPort: 0 });
    const second = await freePort();
    ctx.store.ports.reserve("a1", [
      { ...asked(80, first), origin: "config" },
      { ...asked(81, second), origin: "config" },
    ]);
    await startPorts(ctx, { vmId: "a1", spec: { backend: "qemu" }, runtimeDir, deadline: soon() }, held);
    expect([await hear(first), await hear(second)]).toEqual(["80", "81"]);
  });

  test("lets them go when it fails", async () => {
    const held = new HeldPorts();
    const { hostPort } = await held.hold({ hostAddress: ADDRESS, hostPort: 0 });
    ctx.store.ports.reserve("a1", [{ ...asked(80, hostPort), origin: "config" }]);
    writeFileSync(join(runtimeDir, "fails"), "");
    const start = { vmId: "a1", spec: { backend: "qemu" }, runtimeDir, deadline: soon() };
    await expect(startPorts(ctx, start, held)).rejects.toMatchObject({ code: "NETWORK_FAILED" });
    rmSync(join(runtimeDir, "fails"));
    expect(await hear(hostPort)).toBe("ECONNREFUSED");
    await startPorts(ctx, start, held);
    expect(await hear(hostPort)).toBe("80");
  });
});
