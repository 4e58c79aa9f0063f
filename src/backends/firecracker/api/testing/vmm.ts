// What tests start, ask and end: the double or the program.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { Deadline } from "../../../../base/deadline.js";
import { spawnProgram } from "../../../../host/process.js";
import { ApiClient } from "../client.js";
import { firecrackerDouble } from "./firecracker-double.js";
import { haltingKernel } from "./halting-kernel.js";
import { sampleFiles } from "./samples.js";

export interface Vmm {
  readonly socketPath: string;
  readonly hasEnded: () => boolean;
  end(): Promise<void>;
}

/** Starts one whose socket is at that path; it ends with the test. */
export type StartVmm = (socketPath: string) => Promise<Vmm>;

/** Root may make TAP devices. */
export const isRoot = process.getuid?.() === 0;

/** How long the program may take until it listens, in milliseconds. */
const START_LIMIT_MS = 10_000;
const DISK_BYTES = 1024 * 1024;

export const startDouble: StartVmm = async (socketPath) => {
  const double = await firecrackerDouble(socketPath);
  onTestFinished(() => double.end());
  return double;
};

/** Starts the program `firecracker`; as root in a network of its own, where it may make TAP devices. */
export const startProgram: StartVmm = async (socketPath) => {
  const prefix = isRoot ? ["unshare", "--net"] : [];
  const child = await spawnProgram([...prefix, "firecracker", "--api-sock", socketPath], { stdio: "ignore" });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  const end = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  onTestFinished(end);
  const client = new ApiClient(socketPath);
  await client.greet(Deadline.after(START_LIMIT_MS), hasEnded);
  client.close();
  return { socketPath, hasEnded, end };
};

/** A directory with the files that samples name; it ends with the test. */
export async function sampleDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-fc-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const files = sampleFiles(directory);
  await writeFile(files.kernel, haltingKernel());
  await writeFile(files.initrd, "");
  await writeFile(files.disk, Buffer.alloc(DISK_BYTES));
  return directory;
}
