// SmolVM's own program `hostfs` as a child: it inherits a lane to the guest, and hears on stdin what it is to serve.

import { once } from "node:events";
import type { Duplex, Readable } from "node:stream";
import { SmolVMError } from "../errors/smolvm-error.js";
import { spawnProgram } from "../host/process.js";
import type { MountSpec } from "./mount-plan.js";

type Child = Awaited<ReturnType<typeof spawnProgram>>;

/** The descriptor of the lane, as the child knows it. */
const LANE_FD = 3;
/** Longest message of the child, in bytes. */
const MESSAGE_LIMIT_BYTES = 16 * 1024;

/** Why the child could not do its work. */
export interface MountServerFailure {
  /** Which mount; -1 when it is about none or all. */
  readonly index: number;
  /** Name of an errno. */
  readonly code: string;
  readonly reason: string;
}

/** A child that waits for its order. */
export interface MountServer {
  readonly pid: number;
  /**
   * Says what to serve.
   *
   * @returns `undefined` once the guest can use every mount, else what went wrong; the child ends then. Never rejects.
   */
  serve(mounts: readonly MountSpec[]): Promise<MountServerFailure | undefined>;
  /** Stops listening to it. A child that was told nothing ends. */
  forget(): void;
}

/**
 * Starts the program with a lane, which is closed here. It does not keep this program alive.
 *
 * @param program The helper's path.
 * @param runtimeDir The boot that it belongs to, for finding the process again.
 */
export async function startMountServer(program: string, runtimeDir: string, lane: Duplex): Promise<MountServer> {
  const child = await spawnProgram([program, "-lane-fd", String(LANE_FD)], {
    stdio: ["pipe", "pipe", "ignore", lane],
    detached: true,
    cwd: runtimeDir,
    env: {},
  }).finally(() => lane.destroy()); // Before it is told to speak: what the guest answers must not be read here.
  child.unref();
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new SmolVMError("INTERNAL", "A spawned program has no pipes");
  for (const stream of [stdin, stdout]) stream.on("error", () => {}); // It may end at any time.
  return {
    pid: child.pid as number,
    serve: async (mounts) => {
      stdin.end(orderOf(mounts));
      return parseAnswer(await firstLine(child, stdout));
    },
    forget: () => {
      stdin.destroy();
      stdout.destroy();
    },
  };
}

/** Texts that each end with a NUL; see agent/cmd/hostfs/order.go. */
function orderOf(mounts: readonly MountSpec[]): string {
  const words = mounts.flatMap(({ writable, hostPath, guestPath }) => [writable ? "rw" : "ro", hostPath, guestPath]);
  return [...words, "end"].map((word) => `${word}\0`).join("");
}

async function firstLine(child: Child, stdout: Readable): Promise<string> {
  let text = "";
  stdout.setEncoding("utf8");
  stdout.on("data", (chunk: string) => {
    text += chunk;
    if (text.includes("\n") || text.length > MESSAGE_LIMIT_BYTES) stdout.destroy();
  });
  if (!stdout.closed) await once(stdout, "close");
  if (text === "" && child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return text.split("\n")[0] ?? "";
}

/** @returns `undefined` for "ready". */
export function parseAnswer(line: string): MountServerFailure | undefined {
  if (line === "ready") return undefined;
  const [word, index, code, quoted] = line.split("\t");
  if (word === "error" && index !== undefined && code !== undefined && quoted !== undefined) {
    return { index: Number(index), code, reason: unquote(quoted) };
  }
  return { index: -1, code: "EIO", reason: "the program that serves the mounts ended" };
}

/** The text is JSON unless it holds what Go quotes in ways of its own; then it is shown as it is. */
function unquote(text: string): string {
  try {
    return String(JSON.parse(text));
  } catch {
    return text;
  }
}
