// Stops a machine whose memory is recorded, for good, and saves it.

import { readlink, rm } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { fileError } from "../../errors/file-error.js";
import { pauseVm } from "./api/requests.js";
import { makeFile } from "./disk-copy.js";
import { recordingLink } from "./places.js";
import { withClient } from "./run-state.js";
import { SavedFiles } from "./saved-files.js";

/** See {@link Backend.freeze}. */
export async function freezeMachine(runtimeDir: string, devicesPath: string, deadline: Deadline): Promise<void> {
  const memoryPath = await recordedMemory(runtimeDir);
  await makeFile(devicesPath);
  let files: SavedFiles | undefined;
  try {
    files = await SavedFiles.prepare(runtimeDir, { memoryPath, devicesPath });
    await save(runtimeDir, files, deadline);
    await files.keep(deadline);
  } catch (error) {
    await files?.discard();
    await rm(devicesPath, { force: true });
    throw error;
  }
}

function save(runtimeDir: string, files: SavedFiles, deadline: Deadline): Promise<void> {
  return withClient(runtimeDir, async (client) => {
    await client.call(pauseVm(), deadline);
    // It has booted with a record of the pages that it wrote to: these are all that there is, and the rest are holes.
    await files.save(client, "Diff", deadline);
  });
}

async function recordedMemory(runtimeDir: string): Promise<string> {
  const path = recordingLink(runtimeDir);
  try {
    return await readlink(path);
  } catch (error) {
    throw fileError("Freezing a machine whose memory is not recorded", path, error);
  }
}
