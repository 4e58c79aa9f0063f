import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { faultOf } from "./testing/check-body.js";
import { CONFIGURATION_SEQUENCES } from "./testing/configuration-sequences.js";
import { findRequest } from "./testing/description.js";
import { laxerThanDescribed, stricterThanDescribed } from "./testing/differences.js";
import { holdConnections } from "./testing/hold-connections.js";
import { malformedOf } from "./testing/malformed.js";
import { networkSequence } from "./testing/network-sequence.js";
import { runSequence } from "./testing/run-sequence.js";
import { samples } from "./testing/samples.js";
import { asSent, send } from "./testing/send.js";
import type { Step } from "./testing/sequences.js";
import { STATE_SEQUENCES } from "./testing/state-sequences.js";
import { sampleDirectory, startDouble } from "./testing/vmm.js";

const NAMES = Object.keys(samples(""));
const SEQUENCES: Readonly<Record<string, (directory: string) => readonly Step[]>> = {
  ...CONFIGURATION_SEQUENCES,
  ...STATE_SEQUENCES,
  "network interfaces": networkSequence,
};

test.each(Object.entries(SEQUENCES))("takes and refuses: %s", async (_name, steps) => {
  const directory = await sampleDirectory();
  const { expected, actual } = await runSequence(startDouble, directory, steps(directory));
  expect(actual).toEqual(expected);
});

test.each(NAMES)("refuses whatever differs by one thing from %s", async (name) => {
  const directory = await sampleDirectory();
  const { socketPath } = await startDouble(join(directory, "api"));
  const malformed = malformedOf(asSent(samples(directory)[name]!));
  expect(malformed.length).toBeGreaterThan(0);
  for (const { what, request } of malformed) {
    const { status, body } = await send(socketPath, request);
    expect([what, status, typeof body?.["fault_message"]]).toEqual([what, 400, "string"]);
  }
});

test("refuses what Firecracker takes against its description", async () => {
  const directory = await sampleDirectory();
  const { socketPath } = await startDouble(join(directory, "api"));
  for (const { what, request } of laxerThanDescribed(directory)) {
    expect([what, (await send(socketPath, request)).status]).toEqual([what, 400]);
  }
});

test("refuses what Firecracker refuses though its description allows it", async () => {
  const directory = await sampleDirectory();
  const { socketPath } = await startDouble(join(directory, "api"));
  for (const { what, request } of stricterThanDescribed(directory)) {
    expect([what, findRequest(request.method, request.path)]).not.toEqual([what, undefined]);
    expect([what, (await send(socketPath, request)).status]).toEqual([what, 400]);
  }
});

test("the schema check alone is the description's, with the widths of integers added", () => {
  const schema = { schema: "Balloon" };
  expect(faultOf({ amount_mib: 0, deflate_on_oom: true }, schema)).toBeUndefined();
  expect(faultOf({ amount_mib: 2 ** 32, deflate_on_oom: true }, schema)).toContain("above");
  expect(faultOf({ amount_mib: -1, deflate_on_oom: true }, schema)).toContain("below");
});

test("turns the eleventh connection away", async () => {
  const directory = await sampleDirectory();
  const { socketPath } = await startDouble(join(directory, "api"));
  await holdConnections(socketPath);
  const eleventh = connect(socketPath);
  const [said] = (await once(eleventh, "data")) as [Buffer];
  expect(said.toString()).toContain("HTTP/1.1 503");
  eleventh.destroy();
});
