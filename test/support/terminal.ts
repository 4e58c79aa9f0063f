// A program on a pseudo-terminal that a test sits at: test/fixtures/terminal.go.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { eventually } from "./wait.js";

const SOURCE = join(import.meta.dirname, "../fixtures/terminal.go");
const GO_ENV = { CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOPROXY: "off", GOFLAGS: "-mod=mod" };

/** Builds the driver, for one test file. @returns Its path. */
export function terminalDriver(): string {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-terminal-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "terminal");
  execFileSync("go", ["build", "-o", path, SOURCE], { env: { ...process.env, ...GO_ENV }, cwd: directory });
  return path;
}

export class Terminal {
  /** All that was shown. */
  screen = "";
  readonly #child: ChildProcess;
  #state = "";

  constructor(driver: string, argv: readonly string[], env: NodeJS.ProcessEnv) {
    this.#child = spawn(driver, argv, { env });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.screen += text;
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#state += text;
    });
  }

  /** Presses keys: text, or control characters such as `"\x03"` for Ctrl-C. */
  type(keys: string): void {
    this.#child.stdin?.write(`type ${Buffer.from(keys).toString("hex")}\n`);
  }

  resize(columns: number, rows: number): void {
    this.#child.stdin?.write(`size ${columns} ${rows}\n`);
  }

  /** Waits until something is shown behind what was waited for before. */
  async shows(what: string | RegExp): Promise<void> {
    const end = await eventually(() => {
      if (typeof what !== "string") {
        const match = what.exec(this.screen);
        return match === null ? undefined : match.index + match[0].length;
      }
      const at = this.screen.indexOf(what);
      return at < 0 ? undefined : at + what.length;
    });
    this.screen = this.screen.slice(end);
  }

  /** Ends it, whatever it is doing. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** @returns Its exit code, and how it has left the terminal. */
  async ended(): Promise<{ exitCode: number | null; state: string }> {
    if (this.#child.exitCode === null) await once(this.#child, "close");
    return { exitCode: this.#child.exitCode, state: this.#state.trim() };
  }
}
