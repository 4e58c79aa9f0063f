// A question on a terminal.

import { createInterface } from "node:readline/promises";
import type { CommandContext } from "./command.js";

/** True when there is somebody to ask: a terminal on both sides, and no program that reads our JSON. */
export function canAsk({ host, isJson }: CommandContext): boolean {
  return !isJson && host.stdin.isTTY === true && host.stderr.isTTY === true;
}

/** @returns Whether the answer was yes; anything else is no. */
export async function ask({ host, signal }: CommandContext, question: string): Promise<boolean> {
  const terminal = createInterface({ input: host.stdin, output: host.stderr });
  // In this mode readline takes Ctrl-C for itself.
  const closed = new Promise<string>((resolve) => terminal.once("close", () => resolve("")));
  try {
    const answer = await Promise.race([terminal.question(`${question} [y/N] `, { signal }), closed]);
    if (answer === "") host.stderr.write("\n"); // Ctrl-C and Ctrl-D leave the cursor behind the question.
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    terminal.close();
  }
}
