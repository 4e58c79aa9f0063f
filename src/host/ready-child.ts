// A child that says on a pipe of its own, with one line, that it works. It may well outlive this program.

import type { Socket } from "node:net";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { spawnProgram } from "./process.js";

type Child = Awaited<ReturnType<typeof spawnProgram>>;

/** What the child writes, once; the pipe that closes without it is the answer that it does not work. */
const READY_LINE = "ready\n";

/** How a child ended. */
export interface ChildEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A child that was started. It does not keep this program alive, nor does its pipe. */
export interface ReadyChild {
  readonly pid: number;
  /** Resolves with `undefined` when everything works, or with how it ended before that. Never rejects. */
  readonly settled: Promise<ChildEnd | undefined>;
  readonly hasEnded: () => boolean;
  /** Closes the pipe: whether it is ready is nobody's concern any more. */
  forget(): void;
}

/** @param readyFd Descriptor of the child that is the pipe; a `"pipe"` of its `stdio`. */
export function watchReady(child: Child, readyFd: number): ReadyChild {
  const pipe = (child.stdio as readonly unknown[])[readyFd] as Socket;
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  const ended = new Promise<ChildEnd>((resolve) => {
    const settle = () => resolve({ exitCode: child.exitCode, signal: child.signalCode });
    child.once("exit", settle);
    if (hasEnded()) settle();
  });
  const said = new Promise<boolean>((resolve) => {
    pipe.on("error", () => {}); // "close" follows.
    pipe.once("data", (data: Buffer) => resolve(data.toString("latin1") === READY_LINE));
    pipe.once("close", () => resolve(false));
  });
  child.unref();
  pipe.unref();
  if (child.pid === undefined) throw new SmolVMError("INTERNAL", "A spawned program has no pid");
  return {
    pid: child.pid,
    settled: said.then((isReady) => (isReady ? undefined : ended)),
    hasEnded,
    forget: () => void pipe.destroy(),
  };
}
