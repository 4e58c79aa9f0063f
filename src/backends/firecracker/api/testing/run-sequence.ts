// Plays a sequence to a VMM and notes what it does.

import { join } from "node:path";
import { Deadline } from "../../../../base/deadline.js";
import { pollUntil } from "../../../../base/sleep.js";
import { send } from "./send.js";
import type { Step } from "./sequences.js";
import type { StartVmm } from "./vmm.js";

/** How long a VMM may take to end by itself, in milliseconds. */
const END_LIMIT_MS = 5_000;

/** One line for each step: what was expected, and what was done. They are equal where all is well. */
export interface Played {
  readonly expected: readonly string[];
  readonly actual: readonly string[];
}

export async function runSequence(start: StartVmm, directory: string, steps: readonly Step[]): Promise<Played> {
  const [expected, actual]: [string[], string[]] = [[], []];
  let vmm = await start(join(directory, "api0"));
  for (const [index, step] of steps.entries()) {
    if (step === "second-vmm") {
      vmm = await start(join(directory, `api${index}`));
    } else if (step === "has-ended") {
      expected.push("ended");
      const { hasEnded } = vmm;
      const end = await pollUntil(() => (hasEnded() ? "ended" : undefined), Deadline.after(END_LIMIT_MS));
      actual.push(end ?? "goes on");
    } else {
      const { method, path, body } = step.request;
      const name = `${index}: ${method} ${path.slice(0, 40)} ${JSON.stringify(body)?.slice(0, 120)}`;
      const { status, body: answer } = await send(vmm.socketPath, step.request);
      const fault = answer?.["fault_message"];
      expected.push(`${name}: ${step.isTaken ? "taken" : "refused"}`);
      // What is refused for its form as HTTP has no fault.
      actual.push(`${name}: ${status < 400 ? "taken" : status === 400 ? "refused" : `status ${status}, ${fault}`}`);
    }
  }
  return { expected, actual };
}
