// What a stream needs of its connection, and a connection of its streams.

import type { SmolVMError } from "../errors/smolvm-error.js";
import type { Frame } from "./frame.js";
import type { OutgoingFrame } from "./frame-writer.js";

/**
 * How long the agent may take to say that a killed command is dead or a cancelled call over, in milliseconds. It waits
 * for credit before that, so a sink that holds its stream back counts too.
 */
export const KILL_LIMIT_MS = 10_000;

export interface StreamTransport {
  send(frame: OutgoingFrame): boolean;
  /** Resolves when the lane takes more. */
  drained(): Promise<void>;
  /** Ends the connection, and with it everything that runs on it. */
  close(why: string): void;
  /** A stream's {@link ClientStream.holdsProgram} has changed. */
  refresh(): void;
}

export interface ClientStream {
  /** Whether the program must not end because of it. */
  readonly holdsProgram: boolean;
  /**
   * Takes a frame of this stream, but not `FAILED`.
   *
   * @returns True when the stream has ended with it.
   * @throws {PROTOCOL_ERROR} when the frame is not allowed now.
   */
  accept(frame: Frame): boolean;
  /** Ends it because the agent refused what was asked for. */
  refuse(errno: string, message: string): void;
  /** Ends it because the connection is gone. */
  fail(error: SmolVMError): void;
}
