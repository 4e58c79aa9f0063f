// One action on several things, one after the other: all are attempted, and each is reported.

import { isSmolVMError } from "../errors/smolvm-error.js";
import type { CommandContext, Outcome } from "./command.js";
import { errorReport } from "./output/error-text.js";

/** What is done to each. */
export interface EachAction {
  /** What is shown meanwhile, e.g. `Deleting snapshot`; the name is added. */
  readonly step: string;
  /** What the names are called in a report, e.g. `snapshot`. */
  readonly key: string;
  /** @returns More facts for the report. */
  act(name: string): Promise<object | undefined>;
}

/** @returns An outcome whose data is one report per name; its exit status is that of the first failure. */
export async function each(context: CommandContext, names: readonly string[], action: EachAction): Promise<Outcome> {
  const { key } = action;
  const reports: object[] = [];
  const done: string[] = [];
  const failures: unknown[] = [];
  for (const name of new Set(names)) {
    context.onProgress({ step: `${action.step} ${name}` });
    try {
      const facts = await action.act(name);
      done.push(name);
      reports.push({ [key]: name, ok: true, ...facts, error: null });
    } catch (error) {
      const { code, message, hint } = errorReport(error);
      failures.push(error);
      reports.push({ [key]: name, ok: false, error: { code, message, hint } });
      if (context.signal.aborted || isSmolVMError(error, "ABORTED")) break;
    }
  }
  return { data: reports, text: done.join("\n"), failures };
}
