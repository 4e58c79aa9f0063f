// The facts in testing/description-1.16.json against Firecracker's description, where that is at hand.

import { join } from "node:path";
import { expect, test } from "vitest";
import { runProgram } from "../../../host/process.js";

const SCRIPT = join(import.meta.dirname, "../../../../scripts/firecracker-description.mjs");
/** The script's exit code where there is no description. */
const NOT_HERE = 2;

test("the facts are the description's", async ({ skip }) => {
  const okExitCodes = [0, 1, NOT_HERE];
  const { exitCode, stdout, stderr } = await runProgram([process.execPath, SCRIPT, "--check"], { okExitCodes });
  if (exitCode === NOT_HERE) {
    console.log(`gate: firecracker-description: ${stdout.trim()}`);
    skip();
  }
  expect([exitCode, stderr]).toEqual([0, ""]);
});
