// `smolvm fork`: children of a running VM, which stay.

import type { ForkResult } from "../../index.js";
import type { CommandModule, Outcome } from "../command.js";
import { wholeNumber } from "../options/values.js";
import { errorReport } from "../output/error-text.js";

interface ForkCommandOptions {
  readonly count?: number;
}

export const command: CommandModule<ForkCommandOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of the VM; it runs on afterwards")
      .option("-n, --count <count>", "how many children, 1 to 64 (default: 1)", wholeNumber("--count"));
  },

  async run({ host, signal, onProgress }, { args: [vmId = ""], options: { count } }) {
    const { SmolVM } = await host.loadSdk();
    onProgress({ step: `Forking VM ${vmId}` });
    const vm = await SmolVM.fromId(vmId, { signal });
    return outcomeOf(await vm.fork({ count, signal }));
  },
};

/** Children that exist are told of, whatever became of the others. */
function outcomeOf(children: readonly ForkResult[]): Outcome {
  const data = children.map((child) => {
    if (child.ok) return { ok: true, vmId: child.vm.vmId };
    const { code, message, hint } = errorReport(child.error);
    return { ok: false, error: { code, message, hint } };
  });
  const ids = children.flatMap((child) => (child.ok ? [child.vm.vmId] : []));
  const failures = children.flatMap((child) => (child.ok ? [] : [child.error]));
  return { data, text: ids.join("\n"), failures };
}
