// One action on several VMs, one after the other: all are attempted, and each is reported.

import { isSmolVMError } from "../errors/smolvm-error.js";
import type { SmolVM } from "../index.js";
import type { CommandContext, Outcome } from "./command.js";
import { errorReport } from "./output/error-text.js";

/** What happened to one VM, as `--json` shows it. */
interface VmReport {
  readonly vmId: string;
  readonly ok: boolean;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string } | null;
}

/** What to do. */
export interface VmAction {
  /** What is shown meanwhile, e.g. `Stopping VM`. */
  readonly step: string;
  /** @returns More facts for the VM's report. */
  act(vm: SmolVM): Promise<object | undefined>;
}

/** @returns An outcome whose data is one report per VM; its exit status is that of the first failure. */
export async function eachVm(context: CommandContext, ids: readonly string[], action: VmAction): Promise<Outcome> {
  const { SmolVM } = await context.host.loadSdk();
  const reports: VmReport[] = [];
  const failures: unknown[] = [];
  for (const vmId of new Set(ids)) {
    context.onProgress({ step: `${action.step} ${vmId}` });
    try {
      const facts = await action.act(await SmolVM.fromId(vmId));
      reports.push({ vmId, ok: true, ...facts, error: null });
    } catch (error) {
      const { code, message, hint } = errorReport(error);
      failures.push(error);
      reports.push({ vmId, ok: false, error: { code, message, hint } });
      if (context.signal.aborted || isSmolVMError(error, "ABORTED")) break;
    }
  }
  const done = reports.filter(({ ok }) => ok).map(({ vmId }) => vmId);
  return { data: reports, text: done.join("\n"), failures };
}
