// The double against the program, for all that needs no KVM; and the client against the program. `firecracker` has to be
// on PATH.

import { join } from "node:path";
import { expect, test } from "vitest";
import { Deadline } from "../../../base/deadline.js";
import { findProgram } from "../../../host/find-program.js";
import { ApiClient } from "./client.js";
import { getInstance, getVersion, getVmConfig, putBootSource } from "./requests.js";
import { CONFIGURATION_SEQUENCES } from "./testing/configuration-sequences.js";
import { laxerThanDescribed, stricterThanDescribed } from "./testing/differences.js";
import { holdConnections } from "./testing/hold-connections.js";
import { malformedOf } from "./testing/malformed.js";
import { networkSequence } from "./testing/network-sequence.js";
import { runSequence } from "./testing/run-sequence.js";
import { samples } from "./testing/samples.js";
import { asSent, send } from "./testing/send.js";
import { isRoot, sampleDirectory, startProgram } from "./testing/vmm.js";

const isThere = findProgram("firecracker") !== undefined;
if (!isThere) console.log("gate: firecracker: the double is compared with the program");

const canMakeDevices = isThere && isRoot;
if (isThere && !isRoot) console.log("gate: root: network interfaces are compared with the program");

test.skipIf(!isThere).each(Object.entries(CONFIGURATION_SEQUENCES))("takes and refuses: %s", async (_name, steps) => {
  const directory = await sampleDirectory();
  const { expected, actual } = await runSequence(startProgram, directory, steps(directory));
  expect(actual).toEqual(expected);
});

test.skipIf(!canMakeDevices)("takes and refuses: network interfaces", async () => {
  const { expected, actual } = await runSequence(startProgram, await sampleDirectory(), networkSequence());
  expect(actual).toEqual(expected);
});

test.skipIf(!isThere).each(Object.keys(samples("")))("refuses whatever differs by one thing from %s", async (name) => {
  const directory = await sampleDirectory();
  const { socketPath } = await startProgram(join(directory, "api"));
  const malformed = malformedOf(asSent(samples(directory)[name]!));
  for (const { what, request, isTakenByFirecracker } of malformed) {
    if (isTakenByFirecracker) continue; // See the differences below.
    expect([what, (await send(socketPath, request)).status]).toEqual([what, 400]);
  }
});

test.skipIf(!isThere)("takes what its description forbids or does not know", async () => {
  const directory = await sampleDirectory();
  const { socketPath } = await startProgram(join(directory, "api"));
  for (const { what, request } of laxerThanDescribed(directory)) {
    expect([what, (await send(socketPath, request)).status]).toEqual([what, 204]);
  }
});

test.skipIf(!isThere)("refuses what its description allows", async () => {
  const directory = await sampleDirectory();
  const { socketPath } = await startProgram(join(directory, "api"));
  for (const { what, request } of stricterThanDescribed(directory)) {
    expect([what, (await send(socketPath, request)).status]).toEqual([what, 400]);
  }
});

test.skipIf(!isThere)("its answers have the shape that is checked", async () => {
  const directory = await sampleDirectory();
  const { socketPath } = await startProgram(join(directory, "api"));
  const client = new ApiClient(socketPath);
  const sent = samples(directory);
  for (const name of ["putMachineConfig", "putBootSource", "putDrive", "putVsock", "putBalloon", "putEntropy"]) {
    await client.call(sent[name]!);
  }
  expect(await client.call(getInstance())).toMatchObject({ state: "Not started", appName: "Firecracker" });
  expect((await client.call(getVersion())).firecrackerVersion).toMatch(/^\d+\.\d+\.\d+/);
  expect(await client.call(getVmConfig())).toMatchObject({
    machineConfig: { vcpuCount: 2, memSizeMib: 128, trackDirtyPages: true },
    bootSource: { bootArgs: "console=ttyS0" },
    drives: [{ driveId: "root_1", isRootDevice: true, cacheType: "Writeback" }],
    networkInterfaces: [],
    vsock: { guestCid: 3 },
    entropy: {},
    balloon: { amountMib: 0, deflateOnOom: true },
  });
  client.close();
});

test.skipIf(!isThere)(
  "waits where others hold all its connections, and is told apart from one that has ended",
  async () => {
    const directory = await sampleDirectory();
    const vmm = await startProgram(join(directory, "api"));
    const client = new ApiClient(vmm.socketPath);
    const held = await holdConnections(vmm.socketPath);
    for (let count = 0; count < 5; count++) {
      await expect(client.call(getVersion(), Deadline.after(20))).rejects.toMatchObject({ code: "BUSY" });
    }
    const waiting = client.call(getVersion());
    held[0]?.destroy();
    expect(await waiting).toMatchObject({ firecrackerVersion: expect.any(String) });
    await vmm.end();
    await expect(client.call(getVersion())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    client.close();
  },
);

test.skipIf(!isThere)("goes on after bytes that its server does not understand", async () => {
  const directory = await sampleDirectory();
  const { socketPath } = await startProgram(join(directory, "api"));
  const client = new ApiClient(socketPath);
  const kernelImagePath = join(directory, "kernel");
  // Longer than its server reads, so that it answers before it has read all of it.
  const tooLong = putBootSource({ kernelImagePath, bootArgs: "x".repeat(60_000) });
  for (let count = 0; count < 5; count++) {
    await expect(client.call(tooLong)).rejects.toMatchObject({ code: "STORAGE_FAILED", details: { status: 400 } });
    await client.call(putBootSource({ kernelImagePath }));
  }
  client.close();
});
