// Feeds a command's stdin from what a caller gave.

import { Readable } from "node:stream";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { ExecStream } from "./exec-stream.js";

/** Input of a command. An iterable is told to stop (`return()`), a stream is destroyed, when the command has ended. */
export type CommandInput = string | Uint8Array | AsyncIterable<Uint8Array | string>;

/** Writes the input to the command; once the command takes no more, the input's source is let go. */
export function feedStdin(stream: ExecStream, input: CommandInput): void {
  // Not left to `for await`: that would stop a source only after its next part, which may never come.
  const write = async () => {
    const source = sourceOf(input);
    void stream.stdinClosed.then(() => source.stop());
    while (stream.takesStdin) {
      const part = await source.next();
      if (part === undefined) return stream.endStdin();
      await stream.writeStdin(typeof part === "string" ? Buffer.from(part, "utf8") : part);
    }
  };
  write().catch((cause: unknown) => {
    if (!stream.takesStdin) return; // How a source takes that it is stopped is not the command's failure.
    stream.abandon(new SmolVMError("COMMAND_FAILED", "Cannot run the command: reading its stdin failed", { cause }));
  });
}

/** Where input comes from. */
interface InputSource {
  /** @returns The next part, or `undefined` at the end. */
  next(): Promise<string | Uint8Array | undefined>;
  /** Says that nothing more is wanted; nothing happens at the end. */
  stop(): void;
}

function sourceOf(input: CommandInput): InputSource {
  if (typeof input === "string" || input instanceof Uint8Array) {
    const parts = [input];
    return { next: async () => parts.pop(), stop: () => {} };
  }
  const iterator = input[Symbol.asyncIterator]();
  let isAtEnd = false;
  return {
    next: async () => {
      try {
        const { done, value } = await iterator.next();
        isAtEnd = done === true;
        return isAtEnd ? undefined : value;
      } catch (error) {
        isAtEnd = true;
        throw error;
      }
    },
    stop: () => {
      if (isAtEnd) return;
      isAtEnd = true;
      // A generator takes this only between two parts; a stream that waits for data is ended by nothing else.
      if (input instanceof Readable) input.destroy();
      const end = async () => iterator.return?.();
      end().catch(() => {});
    },
  };
}
