// A program that gets JSON and answers JSON, without holding up the test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** @param input Becomes its stdin, as a file: some programs open that by its name. */
export async function runTool<T>(argv: readonly string[], input: string): Promise<T> {
  const [file = "", ...args] = argv;
  const directory = mkdtempSync(join(tmpdir(), "smolvm-tool-"));
  writeFileSync(join(directory, "stdin"), input);
  const stdin = openSync(join(directory, "stdin"), "r");
  try {
    const child = spawn(file, args, { stdio: [stdin, "pipe", "inherit"] });
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    const [code] = (await once(child, "close")) as [number | null];
    if (code !== 0) throw new Error(`"${argv.join(" ")}" exited with ${code}`);
    return JSON.parse(text) as T;
  } finally {
    closeSync(stdin);
    rmSync(directory, { recursive: true });
  }
}
