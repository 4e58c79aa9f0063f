// Removes what a VMM leaves: sockets, links, its jail.

import { rm } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { fileError } from "../../errors/file-error.js";
import { removeJail } from "./jail.js";
import { recordingLink, vmmDirectory } from "./places.js";

/** See {@link Backend.release}. The runtime directory itself stays. */
export async function removeVmmDirectory(runtimeDir: string, deadline: Deadline): Promise<void> {
  await removeJail(runtimeDir, deadline);
  try {
    await rm(vmmDirectory(runtimeDir), { recursive: true, force: true }); // Without a jail: links, never what they name.
    await rm(recordingLink(runtimeDir), { force: true });
  } catch (error) {
    throw fileError("Removing a VMM's directory", runtimeDir, error);
  }
}
