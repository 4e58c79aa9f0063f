import { once } from "node:events";
import { rename } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Deadline } from "../../../base/deadline.js";
import type { SmolVMError } from "../../../errors/smolvm-error.js";
import { ApiClient } from "./client.js";
import * as requests from "./requests.js";
import { firecrackerDouble } from "./testing/firecracker-double.js";
import { holdConnections } from "./testing/hold-connections.js";
import { samples } from "./testing/samples.js";
import { asSent } from "./testing/send.js";
import { sampleDirectory } from "./testing/vmm.js";

const ample = (signal?: AbortSignal) => Deadline.after(10_000, signal);

async function double() {
  const directory = await sampleDirectory();
  const vmm = await firecrackerDouble(join(directory, "api"));
  onTestFinished(() => vmm.end());
  return { directory, vmm, client: clientOf(vmm.socketPath) };
}

function clientOf(socketPath: string): ApiClient {
  const client = new ApiClient(socketPath);
  onTestFinished(() => client.close());
  return client;
}

/** All requests but the one that loads a snapshot, in an order in which each is taken. */
const LIFE = [
  ...["putLogger", "putMetrics", "putSerial", "getInstance", "getVersion", "putMachineConfig", "putBootSource"],
  ...["putDrive", "putNetworkInterface", "putVsock", "putEntropy", "putBalloon", "getVmConfig", "startInstance"],
  ...["patchDrive", "patchBalloon", "flushMetrics", "pauseVm", "createSnapshot", "resumeVm", "sendCtrlAltDel"],
];

test("each request is taken, over one connection", async () => {
  const { directory, vmm, client } = await double();
  const sent = samples(directory);
  expect([...LIFE, "loadSnapshot"].sort()).toEqual(Object.keys(sent).sort());
  for (const name of LIFE) {
    const { answer } = sent[name]!;
    expect([name, await client.call(sent[name]!)]).toEqual([
      name,
      answer === undefined ? undefined : expect.anything(),
    ]);
  }
  const other = await firecrackerDouble(join(directory, "other"));
  onTestFinished(() => other.end());
  await clientOf(other.socketPath).call(sent["loadSnapshot"]!);

  expect(vmm.connectionCount()).toBe(1);
  expect(vmm.heard).toEqual(LIFE.map((name) => asSent(sent[name]!)));
  expect([vmm.machine.state, other.machine.state]).toEqual(["Running", "Running"]);
});

test("answers come with our names, without what is not there", async () => {
  const { directory, client } = await double();
  await client.call(requests.putDrive({ driveId: "a", isRootDevice: false, pathOnHost: join(directory, "disk") }));
  expect(await client.call(requests.getVersion())).toEqual({ firecrackerVersion: "1.16.1" });
  expect(await client.call(requests.getVmConfig())).toEqual({
    machineConfig: { vcpuCount: 1, memSizeMib: 128, smt: false, trackDirtyPages: false, hugePages: "None" },
    bootSource: { kernelImagePath: "" },
    drives: [{ driveId: "a", isRootDevice: false, pathOnHost: join(directory, "disk") }],
    networkInterfaces: [],
  });
});

test.each([
  ["INTERNAL", () => requests.putMachineConfig({ vcpuCount: 33, memSizeMib: 128 })],
  ["STORAGE_FAILED", () => requests.putBootSource({ kernelImagePath: "/nonexistent" })],
  ["STORAGE_FAILED", () => requests.putDrive({ driveId: "a", isRootDevice: true, pathOnHost: "/nonexistent" })],
  ["NETWORK_FAILED", () => requests.putNetworkInterface({ ifaceId: "a", hostDevName: "much-too-long-a-name" })],
  ["STORAGE_FAILED", () => requests.putVsock({ guestCid: 3, udsPath: "/nonexistent/v" })],
  ["BOOT_FAILED", () => requests.startInstance()],
  ["INTERNAL", () => requests.pauseVm()],
  ["STORAGE_FAILED", () => requests.createSnapshot({ snapshotPath: "/s", memFilePath: "/m" }, 128)],
  [
    "SNAPSHOT_FAILED",
    () => requests.loadSnapshot({ snapshotPath: "/s", memBackend: { backendType: "File", backendPath: "/m" } }),
  ],
])("a refusal is %s and has Firecracker's reason", async (code, make) => {
  const { client } = await double();
  const request = make();
  const name = `${request.method} ${request.path}`;
  const error = (await client.call(request).catch((reason: unknown) => reason)) as SmolVMError;
  expect(error).toMatchObject({ code, details: { request: name, status: 400, fault: expect.stringMatching(/./) } });
  expect(error.message).toBe(`Firecracker refused "${name}": ${error.details["fault"]}`);
});

test("a refusal does not cost the connection, and others go on", async () => {
  const { vmm, client } = await double();
  await expect(client.call(requests.pauseVm())).rejects.toMatchObject({ code: "INTERNAL" });
  await client.call(requests.putEntropy());
  expect(vmm.connectionCount()).toBe(1);
});

test("calls made at once go one after the other, over one connection", async () => {
  const { vmm, client } = await double();
  const sizes = Array.from({ length: 20 }, (_, index) => index + 1);
  await Promise.all(sizes.map((memSizeMib) => client.call(requests.putMachineConfig({ vcpuCount: 1, memSizeMib }))));
  expect(vmm.heard.map(({ body }) => (body as { mem_size_mib: number }).mem_size_mib)).toEqual(sizes);
  expect(vmm.connectionCount()).toBe(1);
});

test("a VMM that ends between two calls, and one that was never there", async () => {
  const { vmm, client } = await double();
  await client.call(requests.getVersion());
  await vmm.end();
  const gone = { code: "CHANNEL_CLOSED", details: { request: "GET /version", path: vmm.socketPath } };
  await expect(client.call(requests.getVersion())).rejects.toMatchObject(gone);
  await expect(clientOf("/nonexistent/api").call(requests.getVersion())).rejects.toMatchObject({
    code: "CHANNEL_CLOSED",
    details: { reason: "ENOENT" },
    cause: { code: "ENOENT" },
  });
});

test("a socket that its VMM left behind", async () => {
  const directory = await sampleDirectory();
  const [path, left] = [join(directory, "api"), join(directory, "left")];
  const server = createServer().listen(path);
  await once(server, "listening");
  await rename(path, left); // Or it would be removed with its server.
  server.close();
  await once(server, "close");
  await expect(clientOf(left).call(requests.getVersion())).rejects.toMatchObject({
    code: "CHANNEL_CLOSED",
    details: { reason: "ECONNREFUSED" },
  });
});

test("a socket that cannot be reached for another reason is no VMM that ended", async () => {
  const directory = await sampleDirectory();
  const path = join(directory, "disk/api");
  await expect(clientOf(path).call(requests.getVersion())).rejects.toMatchObject({
    code: "STORAGE_FAILED",
    details: { path, reason: "ENOTDIR" },
  });
});

test("greets a VMM as soon as it listens", async () => {
  const directory = await sampleDirectory();
  const path = join(directory, "late");
  const greeting = clientOf(path).greet(ample());
  const vmm = await firecrackerDouble(path);
  onTestFinished(() => vmm.end());
  expect(await greeting).toEqual({ id: "double", state: "Not started", vmmVersion: "1.16.1", appName: "Firecracker" });
});

test("greeting ends with the VMM, with the deadline and with the caller", async () => {
  const client = clientOf("/nonexistent/api");
  await expect(client.greet(ample(), () => true)).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  await expect(client.greet(Deadline.after(20))).rejects.toMatchObject({ code: "TIMEOUT", details: { timeoutMs: 20 } });
  const abort = new AbortController();
  const greeting = client.greet(ample(abort.signal));
  abort.abort();
  await expect(greeting).rejects.toMatchObject({ code: "ABORTED" });
});

test("waits for a connection where others hold them all, and says so when none comes free", async () => {
  const { vmm, client } = await double();
  const held = await holdConnections(vmm.socketPath);
  await expect(client.call(requests.getVersion(), Deadline.after(50))).rejects.toMatchObject({ code: "BUSY" });
  const abort = new AbortController();
  const given = client.call(requests.getVersion(), ample(abort.signal));
  abort.abort();
  await expect(given).rejects.toMatchObject({ code: "ABORTED" });
  const waiting = client.call(requests.getVersion(), ample());
  held[0]?.destroy();
  expect(await waiting).toEqual({ firecrackerVersion: "1.16.1" });
});

test("closing hangs up, and a closed client says so", async () => {
  const { client } = await double();
  await client.call(requests.getVersion());
  client.close();
  client.close();
  await expect(client.call(requests.getVersion())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});
