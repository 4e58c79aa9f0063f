// Turns the agent's byte stream into frames, trusting none of it.
// Before the agent's answer to our nonce it hunts for that answer; after it, every byte must be right.

import { FieldReader } from "./fields.js";
import {
  AGENT_CONTROL_LIMIT_BYTES,
  decodeHeader,
  type Frame,
  type FrameName,
  HEADER_BYTES,
  nextSequence,
  PREAMBLE,
} from "./frame.js";
import { violation } from "./violation.js";

/** How much of an earlier client's leftovers is dropped before giving up, in bytes. */
const LEFTOVER_LIMIT_BYTES = 16 * 1024 * 1024;
/** Tag of the nonce in `WELCOME`. */
const NONCE_TAG = 2;

const FROM_AGENT = new Set<FrameName>([
  "welcome",
  "fatal",
  "started",
  "data",
  "end",
  "credit",
  "exited",
  "failed",
  "skipped",
  "reply",
]);

export class FrameDecoder {
  readonly #nonce: Buffer;
  #pending: Buffer = Buffer.alloc(0);
  #isSynchronised = false;
  #droppedBytes = 0;
  #sequence = 0;

  /** @param nonce What the `WELCOME` that ends the hunt must carry. */
  constructor(nonce: Buffer) {
    this.#nonce = nonce;
  }

  /**
   * Takes the next bytes.
   *
   * @returns The frames that they complete; the first one ever is the `WELCOME` with our nonce.
   * @throws {PROTOCOL_ERROR} on anything that is not the protocol. The decoder is of no use after that.
   */
  push(chunk: Buffer): Frame[] {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const frames: Frame[] = [];
    if (!this.#isSynchronised) {
      const welcome = this.#hunt();
      if (welcome === undefined) return frames;
      frames.push(welcome);
    }
    for (;;) {
      const frame = this.#next();
      if (frame === undefined) return frames;
      frames.push(frame);
    }
  }

  #next(): Frame | undefined {
    if (this.#pending.length < HEADER_BYTES) return undefined;
    const header = decodeHeader(this.#pending);
    if (typeof header === "string") throw violation(header);
    if (!FROM_AGENT.has(header.name)) throw violation(`frame ${header.name} is not for an agent to send`);
    if (header.name !== "data" && header.payloadBytes > AGENT_CONTROL_LIMIT_BYTES) {
      throw violation(`frame ${header.name} with ${header.payloadBytes} bytes is over the limit`);
    }
    if (header.sequence !== this.#sequence) {
      throw violation(`sequence number is ${header.sequence}, expected ${this.#sequence}`);
    }
    const endBytes = HEADER_BYTES + header.payloadBytes;
    if (this.#pending.length < endBytes) return undefined;
    const payload = this.#pending.subarray(HEADER_BYTES, endBytes);
    this.#pending = this.#pending.subarray(endBytes);
    this.#sequence = nextSequence(this.#sequence);
    return { ...header, payload };
  }

  /** Looks for preamble, `WELCOME` and our nonce; drops what cannot be part of them. */
  #hunt(): Frame | undefined {
    // A leftover answer that was cut off looks incomplete for ever: the hunt goes on behind it.
    let firstIncomplete: number | undefined;
    for (let from = 0; ; ) {
      const start = this.#pending.indexOf(PREAMBLE, from);
      if (start < 0) {
        this.#drop(firstIncomplete ?? Math.max(0, this.#pending.length - PREAMBLE.length + 1));
        return undefined;
      }
      const candidate = this.#candidateAt(start + PREAMBLE.length);
      if (candidate === "incomplete") firstIncomplete ??= start;
      else if (candidate !== "other") return candidate;
      from = start + 1;
    }
  }

  #candidateAt(offset: number): Frame | "incomplete" | "other" {
    const bytes = this.#pending.subarray(offset);
    if (bytes.length < HEADER_BYTES) return "incomplete";
    const header = decodeHeader(bytes);
    if (typeof header === "string" || header.name !== "welcome" || header.payloadBytes > AGENT_CONTROL_LIMIT_BYTES) {
      return "other";
    }
    const endBytes = HEADER_BYTES + header.payloadBytes;
    if (bytes.length < endBytes) return "incomplete";
    const payload = bytes.subarray(HEADER_BYTES, endBytes);
    if (header.sequence !== 0 || !this.#isOurs(payload)) return "other";
    this.#isSynchronised = true;
    this.#sequence = 1;
    this.#pending = bytes.subarray(endBytes);
    return { ...header, payload };
  }

  #isOurs(payload: Buffer): boolean {
    try {
      return new FieldReader(payload).bytes(NONCE_TAG)?.equals(this.#nonce) ?? false;
    } catch {
      return false; // Leftovers that only look like an answer.
    }
  }

  #drop(sizeBytes: number): void {
    this.#pending = this.#pending.subarray(sizeBytes);
    this.#droppedBytes += sizeBytes;
    if (this.#droppedBytes > LEFTOVER_LIMIT_BYTES) {
      throw violation(`no answer within ${LEFTOVER_LIMIT_BYTES} bytes of leftovers`);
    }
  }
}
