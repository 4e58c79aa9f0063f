// Runs the programs that building and testing need: argv arrays, never a shell.

import { spawn } from "node:child_process";
import { ROOT } from "./root.mjs";

/** A failure whose message is all that a person needs to see. */
export class Stop extends Error {}

/**
 * Runs a program to its end.
 *
 * @param {string[]} argv
 * @param {{ cwd?: string, env?: Record<string, string>, show?: boolean, onLine?: (line: string) => void }} [options]
 *   `show` passes its output through as it comes; otherwise it is only collected. `onLine` gets each line of stdout.
 * @returns {Promise<{ code: number, output: string }>} `output` is stdout and stderr as they came.
 */
export function run(argv, { cwd = ROOT, env = {}, show = false, onLine } = {}) {
  return new Promise((resolve, reject) => {
    const [file, ...args] = argv;
    const child = spawn(file, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let partial = "";
    const take = (stream, target) => {
      stream.setEncoding("utf8");
      stream.on("data", (text) => {
        output += text;
        if (show) target.write(text);
        if (onLine === undefined || target !== process.stdout) return;
        const lines = (partial + text).split("\n");
        partial = lines.pop() ?? "";
        lines.forEach(onLine);
      });
    };
    take(child.stdout, process.stdout);
    take(child.stderr, process.stderr);
    child.on("error", (error) => {
      reject(error.code === "ENOENT" ? new Stop(`${file} is not installed`) : error);
    });
    child.on("close", (code, signal) => {
      if (partial !== "") onLine?.(partial);
      resolve({ code: signal === null ? code : 1, output });
    });
  });
}

/** Runs a program that must succeed; its output is part of the failure. */
export async function mustRun(argv, options) {
  const { code, output } = await run(argv, options);
  if (code !== 0) throw new Stop(`${argv.join(" ")} failed with exit code ${code}:\n${output.trimEnd()}`);
  return output;
}

/** The argv of a program that a package in node_modules brings, run by this very Node. */
export function nodeProgram(script, ...args) {
  return [process.execPath, `${ROOT}/node_modules/${script}`, ...args];
}

/** Ends the process with a Stop's message, or with the whole stack of anything else. */
export function exitWith(error) {
  process.stderr.write(`${error instanceof Stop ? error.message : (error?.stack ?? error)}\n`);
  if (typeof error?.hint === "string") process.stderr.write(`${error.hint}\n`);
  process.exit(1);
}
