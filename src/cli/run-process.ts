// Ties the command line to this process: its streams, its signals, its exit status.

import type { CliHost } from "./command.js";
import { ENDING_SIGNALS, Interrupts } from "./interrupts.js";
import { withHooks } from "./load-hooks.js";
import { flush } from "./output/write-bytes.js";
import { runCli } from "./run-cli.js";

/** How long the last output may wait for its reader once the program was interrupted, in milliseconds. */
const INTERRUPTED_FLUSH_MS = 250;

/** Runs one command line and ends the process with its exit status. */
export async function runProcess(argv: readonly string[]): Promise<void> {
  const interrupts = new Interrupts();
  let isFinishing = false;
  const end = () => process.exit(process.exitCode ?? interrupts.exitCode);
  for (const name of ENDING_SIGNALS) {
    process.on(name, () => {
      const isFirst = interrupts.interrupt(name);
      // A VM of `run` that is left behind by this has an owner that is gone: the next reconcile removes it.
      if (!isFirst || isFinishing) end();
    });
  }
  process.stdout.on("error", () => interrupts.interrupt("SIGPIPE"));
  process.stderr.on("error", () => {}); // There is nobody left to tell.

  process.exitCode = await runCli(argv, processHost(), interrupts);
  isFinishing = true;
  const limitMs = interrupts.first === undefined ? undefined : INTERRUPTED_FLUSH_MS;
  await Promise.all([flush(process.stdout, limitMs), flush(process.stderr, limitMs)]);
  // Not left to the event loop: connections to guests that run on would keep it busy.
  end();
}

function processHost(): CliHost {
  return {
    // Looked up late: opening stdin is what makes Node read from it.
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    runAttached: async (argv, signal) => (await import("../sdk/host-terminal.js")).runAttached(argv, signal),
    showOutputAsItIs: async () => (await import("../sdk/host-terminal.js")).showOutputAsItIs(),
    loadSdk: async () => withHooks(await import("../index.js"), process.env),
  };
}
