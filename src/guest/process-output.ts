// Output of a process between the guest, which may be fast, and its reader, who may be slow, late or not there at all.

import type { OutputStream } from "./byte-receiver.js";
import { OutputBuffer } from "./output-buffer.js";

/** A piece of output, in the order in which it came. */
export interface ProcessOutput {
  readonly stream: OutputStream;
  readonly data: Buffer;
  /** Where it begins in the process's output, stdout and stderr together, in bytes. */
  readonly offset: number;
}

/**
 * What a killed process may still say while nobody reads, in bytes: several times what its pipes and its credit can
 * hold. The agent tells of its end only after that.
 */
const LAST_WORDS_LIMIT_BYTES = 4 * 1024 * 1024;
/** What a piece in the queue costs beside its content, in bytes, as V8 has objects and buffers; rounded up. */
const PIECE_COST_BYTES = 256;

export class ProcessOutputQueue {
  /** What the result is made of. */
  readonly kept: { readonly stdout: OutputBuffer; readonly stderr: OutputBuffer };
  #pieces: ProcessOutput[] = [];
  #nextPiece = 0;
  #queuedBytes = 0;
  #allowanceBytes = 0;
  /** `held`: nobody has asked for anything yet; `collecting`: only {@link kept} counts. */
  #mode: "held" | "reading" | "collecting" = "held";
  #isFinished = false;
  #wakeWriter: (() => void) | undefined;
  #wakeReader: (() => void) | undefined;

  /** @param maxOutputBytes What is kept of each output, in bytes. */
  constructor(maxOutputBytes: number) {
    this.kept = { stdout: new OutputBuffer(maxOutputBytes), stderr: new OutputBuffer(maxOutputBytes) };
  }

  /** Takes a piece. @returns A promise while the guest has to wait for the reader. */
  push(piece: ProcessOutput): void | Promise<void> {
    this.kept[piece.stream].push(piece.data);
    if (this.#mode === "collecting") return undefined;
    this.#pieces.push(piece);
    this.#queuedBytes += costOf(piece);
    this.#wakeReader?.();
    if (this.#queuedBytes <= this.#allowanceBytes) return undefined;
    return new Promise((resolve) => {
      this.#wakeWriter = resolve;
    });
  }

  /** A reader is there. @returns False when there is one already. */
  read(): boolean {
    if (this.#mode === "reading") return false;
    this.#mode = "reading";
    return true;
  }

  /** Nobody reads piece by piece: all that comes only goes to the result. */
  collect(): void {
    this.#mode = "collecting";
    this.#pieces = [];
    this.#nextPiece = 0;
    this.#queuedBytes = 0;
    this.#letWriterOn();
  }

  /** {@link collect}, unless a reader is there. */
  collectUnlessRead(): void {
    if (this.#mode === "held") this.collect();
  }

  /** The process was killed: it must not wait for its reader any more. */
  release(): void {
    this.#allowanceBytes = LAST_WORDS_LIMIT_BYTES;
    if (this.#queuedBytes <= this.#allowanceBytes) this.#letWriterOn();
  }

  /** The next piece for the reader; `undefined` at the end. */
  async next(): Promise<ProcessOutput | undefined> {
    while (this.#nextPiece === this.#pieces.length && !this.#isFinished && this.#mode === "reading") {
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
    const piece = this.#pieces[this.#nextPiece];
    if (piece === undefined) return undefined;
    this.#nextPiece += 1;
    if (this.#nextPiece === this.#pieces.length) {
      this.#pieces = [];
      this.#nextPiece = 0;
    }
    this.#queuedBytes -= costOf(piece);
    if (this.#queuedBytes <= this.#allowanceBytes) this.#letWriterOn();
    return piece;
  }

  /** Nothing more comes. */
  finish(): void {
    this.#isFinished = true;
    this.#wakeReader?.();
  }

  #letWriterOn(): void {
    this.#wakeWriter?.();
    this.#wakeWriter = undefined;
  }
}

function costOf({ data }: ProcessOutput): number {
  return data.length + PIECE_COST_BYTES;
}
