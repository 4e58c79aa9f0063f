// Phases of a long script: shown while they run, timed, and listed at the end. Everything goes to stderr but the table.

/** Pause between two plain lines about one step when there is no terminal, in milliseconds. */
const PLAIN_LINE_PAUSE_MS = 5_000;
/** Pause between two refreshes of the live line, in milliseconds. */
const REFRESH_MS = 200;

/** Runs phases one after the other and remembers how long each took. */
export class Phases {
  #timings = [];

  /**
   * Runs one phase.
   *
   * @template T
   * @param {string} name
   * @param {(onProgress: (event: { step: string, detail?: string, fraction?: number }) => void) => Promise<T>} work
   * @returns {Promise<T>}
   */
  async run(name, work) {
    const started = performance.now();
    const display = process.stderr.isTTY ? new LiveLine(name, started) : new PlainLines(name, started);
    let isDone = false;
    try {
      const value = await work((event) => display.show(event));
      isDone = true;
      return value;
    } finally {
      const ms = performance.now() - started;
      this.#timings.push({ name, ms });
      display.end(isDone ? "done" : "failed", ms);
    }
  }

  /** One line per phase with its duration, and the sum. */
  table() {
    const rows = [...this.#timings, { name: "total", ms: this.#timings.reduce((sum, { ms }) => sum + ms, 0) }];
    const nameWidth = Math.max(...rows.map(({ name }) => name.length));
    const timeWidth = Math.max(...rows.map(({ ms }) => seconds(ms).length));
    return rows.map(({ name, ms }) => `${name.padEnd(nameWidth)}  ${seconds(ms).padStart(timeWidth)}`).join("\n");
  }
}

/** A line on a terminal that is rewritten in place, also while nothing is reported. */
class LiveLine {
  #name;
  #started;
  #text = "";
  #timer;

  constructor(name, started) {
    this.#name = name;
    this.#started = started;
    this.#timer = setInterval(() => this.#draw(), REFRESH_MS);
    this.#draw();
  }

  show(event) {
    this.#text = describe(event);
  }

  end(outcome, ms) {
    clearInterval(this.#timer);
    process.stderr.write(`\r\x1b[2K${this.#name}: ${outcome} (${seconds(ms)})\n`);
  }

  #draw() {
    const elapsed = Math.floor((performance.now() - this.#started) / 1000);
    const line = `${this.#name} (${elapsed} s)${this.#text === "" ? "" : `: ${this.#text}`}`;
    process.stderr.write(`\r\x1b[2K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`);
  }
}

/** Plain lines for logs: every new step at once, details of one step now and then. */
class PlainLines {
  #name;
  #step;
  #lastLine;

  constructor(name, started) {
    this.#name = name;
    this.#lastLine = started;
    process.stderr.write(`${name} ...\n`);
  }

  show(event) {
    const now = performance.now();
    if (event.step === this.#step && now - this.#lastLine < PLAIN_LINE_PAUSE_MS) return;
    this.#step = event.step;
    this.#lastLine = now;
    process.stderr.write(`${this.#name}: ${describe(event)}\n`);
  }

  end(outcome, ms) {
    process.stderr.write(`${this.#name}: ${outcome} (${seconds(ms)})\n`);
  }
}

function describe({ step, detail, fraction }) {
  const share = fraction === undefined ? "" : ` ${Math.round(fraction * 100)} %`;
  return `${step}${share}${detail === undefined ? "" : ` (${detail})`}`;
}

function seconds(ms) {
  return ms < 10_000 ? `${(ms / 1000).toFixed(2)} s` : `${(ms / 1000).toFixed(1)} s`;
}
