// Sends what somebody else produces into a call, and stops as soon as the call has ended.

import { invalidConfig } from "../../errors/invalid-config.js";
import type { CallExchange } from "../call-exchange.js";

/** Content to write: text, bytes, or pieces of both. */
export type FileContent = string | Uint8Array | Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

/** @throws {INVALID_CONFIG} */
export function checkContent(content: FileContent): void {
  const isIterable = typeof content === "object" && content !== null && iterates(content);
  if (isPiece(content) || isIterable) return;
  throw invalidConfig({ field: "data", value: content, expected: "a string, a Uint8Array or an iterable of them" });
}

function iterates(content: object): boolean {
  return Symbol.asyncIterator in content || Symbol.iterator in content;
}

/**
 * Sends all content and its end. Returns early when the call ended first: its `reply` says why. An iterable is told to
 * stop then (`return()`).
 *
 * @returns The number of bytes sent.
 * @throws What the content itself throws; the call is open then.
 */
export async function feed(
  exchange: CallExchange,
  content: FileContent,
  encoding: BufferEncoding = "utf8",
): Promise<number> {
  if (typeof content === "string" || content instanceof Uint8Array) {
    const bytes = asBytes(content, encoding);
    await exchange.write(bytes);
    exchange.end();
    return bytes.length;
  }
  const pieces = Symbol.asyncIterator in content ? content[Symbol.asyncIterator]() : content[Symbol.iterator]();
  const ended = new CallEnd(exchange);
  let sentBytes = 0;
  for (;;) {
    // A source may keep silent for ever, so its next piece is never waited for alone.
    const next = await ended.or(Promise.resolve(pieces.next()));
    if (next?.done) break;
    if (next === undefined || !isPiece(next.value)) {
      stop(pieces);
      if (next === undefined) return sentBytes;
      throw invalidConfig({ field: "data", value: next.value, expected: "pieces that are strings or Uint8Arrays" });
    }
    const bytes = asBytes(next.value, encoding);
    await exchange.write(bytes);
    sentBytes += bytes.length;
  }
  exchange.end();
  return sentBytes;
}

/** Not waited for: a generator that is busy returns only after its next piece. */
function stop(pieces: Iterator<unknown> | AsyncIterator<unknown>): void {
  void (async () => pieces.return?.())().catch(() => {});
}

function isPiece(value: unknown): boolean {
  return typeof value === "string" || value instanceof Uint8Array;
}

function asBytes(piece: string | Uint8Array, encoding: BufferEncoding): Uint8Array {
  return typeof piece === "string" ? Buffer.from(piece, encoding) : piece;
}

/** The end of a call, to be waited for many times: a promise would remember everybody who ever did. */
class CallEnd {
  #hasEnded = false;
  #wake: (() => void) | undefined;

  constructor(exchange: CallExchange) {
    const end = () => {
      this.#hasEnded = true;
      this.#wake?.();
    };
    exchange.reply.then(end, end);
  }

  /** What the work gives, or undefined when the call ended first. */
  or<T>(work: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      this.#wake = () => resolve(undefined);
      work.then(resolve, reject);
      if (this.#hasEnded) resolve(undefined);
    });
  }
}
