// A process in a guest on this program's terminal: keys go to it as they are, the size of the window follows.

import { invalidConfig } from "../errors/invalid-config.js";
import type { CommandResult, GuestProcess, PtySize } from "../index.js";
import type { CliHost, CommandContext, OutputStream } from "./command.js";
import { writeBytes } from "./output/write-bytes.js";

/** Size of a terminal that does not tell. */
const DEFAULT_SIZE: PtySize = { cols: 80, rows: 24 };

/** Whether this program's user sits at a terminal. */
export function isAtTerminal({ stdin, stdout }: CliHost): boolean {
  return stdin.isTTY === true && stdout.isTTY === true;
}

/**
 * @param start Starts the process on a PTY of the given size.
 * @throws {INVALID_CONFIG} when stdin and stdout are no terminal. @throws as the process.
 */
export async function runInTerminal(
  { host, isJson, signal }: CommandContext,
  start: (pty: PtySize) => GuestProcess,
): Promise<CommandResult> {
  if (isJson || !isAtTerminal(host)) {
    const expected = isJson
      ? "nothing together with --json"
      : "a terminal as stdin and stdout; leave -t out where there is none";
    throw invalidConfig({ field: "--tty", value: true, expected });
  }
  const { stdin, stdout } = host;
  const process = start(sizeOf(stdout));
  const follow = () => process.resize(sizeOf(stdout));
  stdout.on("resize", follow);
  try {
    // Not before the process is there: until then Ctrl-C is for us.
    await process.started;
    stdin.setRawMode?.(true);
    await host.showOutputAsItIs();
    stdin.pipe(process.stdin);
    for await (const { data } of process) await writeBytes(stdout, data, signal);
    return await process;
  } finally {
    stdout.off("resize", follow);
    stdin.unpipe(process.stdin);
    stdin.setRawMode?.(false);
    stdin.destroy();
  }
}

function sizeOf({ columns, rows }: OutputStream): PtySize {
  return { cols: columns || DEFAULT_SIZE.cols, rows: rows || DEFAULT_SIZE.rows };
}
