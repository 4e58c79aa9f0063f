// Progress on stderr: one line that rewrites itself on a terminal; elsewhere nothing, or a line now and then.

import type { ProgressEvent } from "../../base/progress.js";
import type { OutputStream } from "../command.js";

/** How often the elapsed seconds are redrawn, in milliseconds. */
const TICK_MS = 1000;
/** Shortest time between two lines that only differ in detail, in milliseconds. */
const PLAIN_INTERVAL_MS = 5000;
/** Width of a terminal that does not tell, in columns. */
const DEFAULT_COLUMNS = 80;
/** Length of the bar that shows how much is done, in characters. */
const BAR_CELLS = 20;
/** A narrower terminal needs the room for words, in columns. */
const BAR_FROM_COLUMNS = 60;
/** Back to the line's start, and erase it (ECMA-48 EL). */
const ERASE_LINE = "\r\x1b[K";

export class ProgressLine {
  readonly #stream: OutputStream;
  readonly #isSilent: boolean;
  #mayPrintPlainLines = false;
  #event: ProgressEvent | undefined;
  #startedAtMs = 0;
  #plainAtMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: OutputStream, options: { readonly isSilent: boolean }) {
    this.#stream = stream;
    this.#isSilent = options.isSilent;
  }

  /** For work of minutes: its steps are also shown where there is no terminal. */
  allowPlainLines(): void {
    this.#mayPrintPlainLines = true;
  }

  show(event: ProgressEvent): void {
    if (this.#isSilent) return;
    const isNewStep = event.step !== this.#event?.step;
    if (isNewStep) this.#startedAtMs = performance.now();
    this.#event = event;
    if (this.#stream.isTTY === true) {
      this.#timer ??= setInterval(() => this.#draw(), TICK_MS).unref();
      this.#draw();
      return;
    }
    const now = performance.now();
    if (!this.#mayPrintPlainLines || (!isNewStep && now - this.#plainAtMs < PLAIN_INTERVAL_MS)) return;
    this.#plainAtMs = now;
    this.#stream.write(`${describe(event)}\n`);
  }

  /** Takes the line off the screen; a later {@link show} starts a new one. */
  end(): void {
    clearInterval(this.#timer);
    if (this.#timer !== undefined) this.#stream.write(ERASE_LINE);
    this.#timer = undefined;
    this.#event = undefined;
  }

  #draw(): void {
    if (this.#event === undefined) return;
    const seconds = Math.floor((performance.now() - this.#startedAtMs) / 1000);
    const columns = this.#stream.columns || DEFAULT_COLUMNS; // A terminal of unknown size says 0.
    const elapsed = seconds > 0 ? ` ${seconds} s` : "";
    const text = `${columns < BAR_FROM_COLUMNS ? "" : bar(this.#event)}${describe(this.#event)}`.slice(
      0,
      Math.max(0, columns - elapsed.length - 1),
    );
    this.#stream.write(`${ERASE_LINE}${text}${elapsed}`);
  }
}

/** The share that is done as a picture, where it is known. */
function bar({ fraction }: ProgressEvent): string {
  if (fraction === undefined) return "";
  const done = Math.floor(fraction * BAR_CELLS);
  return `[${"#".repeat(done)}${".".repeat(BAR_CELLS - done)}] `;
}

function describe({ step, detail, fraction }: ProgressEvent): string {
  const share = fraction === undefined ? "" : ` ${Math.floor(fraction * 100)}%`;
  const text = detail === undefined ? `${step}${share}` : `${step}${share}: ${detail}`;
  return text.replaceAll(/\p{Cc}+/gu, " ");
}
