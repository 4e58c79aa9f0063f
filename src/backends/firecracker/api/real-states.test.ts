// The double against the program, for a machine that was started. `firecracker` has to be on PATH, and KVM has to make
// machines; a guest that halts at once is all that runs.

import { join } from "node:path";
import { expect, test } from "vitest";
import { findProgram } from "../../../host/find-program.js";
import { putBootSource, startInstance } from "./requests.js";
import { runSequence } from "./testing/run-sequence.js";
import { sampleFiles } from "./testing/samples.js";
import { asSent, send } from "./testing/send.js";
import { STATE_SEQUENCES } from "./testing/state-sequences.js";
import { sampleDirectory, startProgram } from "./testing/vmm.js";

const isThere = findProgram("firecracker") !== undefined;
if (!isThere) console.log("gate: firecracker: the double is compared with the program");

/** What came of {@link findObstacle}, which is looked for once. */
let obstacle: Promise<string | undefined> | undefined;

/** Why no machine can be started here, or `undefined`. */
async function findObstacle(): Promise<string | undefined> {
  if (process.arch !== "x64") return "there is a kernel for x86_64 only";
  const directory = await sampleDirectory();
  const { socketPath } = await startProgram(join(directory, "api"));
  await send(socketPath, asSent(putBootSource({ kernelImagePath: sampleFiles(directory).kernel, bootArgs: "" })));
  const { status, body } = await send(socketPath, asSent(startInstance()));
  return status === 204 ? undefined : String(body?.["fault_message"]).replaceAll(/\s+/g, " ");
}

const names = Object.keys(STATE_SEQUENCES);

test.skipIf(!isThere).for(names)("takes and refuses: %s", async (name, { skip }) => {
  obstacle ??= findObstacle();
  const reason = await obstacle;
  if (reason !== undefined) {
    console.log(`gate: kvm: ${reason}`);
    skip(reason);
  }
  const directory = await sampleDirectory();
  const { expected, actual } = await runSequence(startProgram, directory, STATE_SEQUENCES[name]!(directory));
  expect(actual).toEqual(expected);
});
