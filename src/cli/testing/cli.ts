// A whole command line against a library that is made up, with streams that keep what is written to them.

import { Readable, Writable } from "node:stream";
import type { CliHost, Sdk } from "../command.js";
import { Interrupts } from "../interrupts.js";
import { runCli } from "../run-cli.js";

function sink() {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString("utf8") };
}

/** What a command line runs against. */
export interface Setting {
  readonly sdk?: object;
  readonly interrupts?: Interrupts;
  readonly env?: Record<string, string>;
  /** Whether stdout and stderr are a terminal. */
  readonly isTTY?: boolean;
  /** Stands for programs on our streams. */
  readonly runAttached?: (argv: readonly string[]) => Promise<number>;
}

/** Runs a command line whose words are separated by spaces. */
export async function cli(
  line: string | readonly string[],
  { sdk = {}, interrupts = new Interrupts(), env = {}, isTTY = false, runAttached = async () => 0 }: Setting = {},
) {
  const stdout = sink();
  const stderr = sink();
  const stdin = Readable.from([Buffer.from("in")]);
  const host: CliHost = {
    stdin,
    stdout: Object.assign(stdout.stream, { isTTY }),
    stderr: Object.assign(stderr.stream, { isTTY }),
    env,
    runAttached,
    showOutputAsItIs: async () => {},
    loadSdk: async () => sdk as unknown as Sdk,
  };
  const argv = typeof line === "string" ? line.split(" ").filter((word) => word !== "") : line;
  const exitCode = await runCli(argv, host, interrupts);
  return { exitCode, stdout: stdout.text(), stderr: stderr.text(), stdin, json: () => JSON.parse(stdout.text()) };
}
