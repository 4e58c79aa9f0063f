// Numbers outgoing frames and writes them to the lane.

import type { Duplex } from "node:stream";
import { CHANNEL, encodeHeader, type FrameName, nextSequence, PREAMBLE } from "./frame.js";

/** Largest `DATA` payload that we send, in bytes; small enough that control frames get through in between. */
export const SENT_CHUNK_BYTES = 32 * 1024;

/** A frame to send; the writer adds its number. */
export interface OutgoingFrame {
  readonly name: FrameName;
  readonly stream: number;
  readonly channel?: number;
  readonly payload?: Uint8Array;
}

export class FrameWriter {
  readonly #socket: Duplex;
  #sequence = 0;

  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  /** Sends the preamble and the first frame of a connection. */
  open(payload: Uint8Array): void {
    this.#socket.write(PREAMBLE);
    this.send({ name: "hello", stream: 0, payload });
  }

  /** Sends one frame. @returns False when the lane is full: wait for `drain` before sending much more. */
  send(frame: OutgoingFrame): boolean {
    const payload = frame.payload ?? Buffer.alloc(0);
    const header = encodeHeader({
      name: frame.name,
      channel: frame.channel ?? CHANNEL.stdin,
      stream: frame.stream,
      sequence: this.#sequence,
      payloadBytes: payload.length,
    });
    this.#sequence = nextSequence(this.#sequence);
    // One buffer and one system call; copying a payload costs less than a gathered write.
    return this.#socket.write(payload.length === 0 ? header : Buffer.concat([header, payload]));
  }
}

/** The preamble without its first byte, which may be the last one of a header: the low byte of the payload's length. */
const PREAMBLE_REST = PREAMBLE.subarray(1);

/**
 * Length of the next `DATA` payload out of `bytes`: at most {@link SENT_CHUNK_BYTES}, at most `creditBytes`, and cut in the
 * middle of a preamble, which must not appear in the stream (docs/guest-protocol.md, "Connection").
 */
export function nextChunkBytes(bytes: Buffer, creditBytes: number): number {
  const sizeBytes = Math.min(bytes.length, SENT_CHUNK_BYTES, creditBytes);
  const at = bytes.subarray(0, sizeBytes).indexOf(PREAMBLE);
  const cutBytes = at < 0 ? sizeBytes : at + PREAMBLE.length / 2;
  const headerBeginsIt =
    (cutBytes & 0xff) === PREAMBLE[0] && PREAMBLE_REST.equals(bytes.subarray(0, PREAMBLE_REST.length));
  return headerBeginsIt ? PREAMBLE.length / 2 : cutBytes;
}
