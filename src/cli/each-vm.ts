// One action on several VMs, by their ids.

import type { SmolVM } from "../index.js";
import type { CommandContext, Outcome } from "./command.js";
import { each } from "./each.js";

/** What to do. */
export interface VmAction {
  /** What is shown meanwhile, e.g. `Stopping VM`. */
  readonly step: string;
  /** @returns More facts for the VM's report. */
  act(vm: SmolVM): Promise<object | undefined>;
}

/** @returns As {@link each}. */
export async function eachVm(context: CommandContext, ids: readonly string[], action: VmAction): Promise<Outcome> {
  const { SmolVM } = await context.host.loadSdk();
  const act = async (vmId: string) => action.act(await SmolVM.fromId(vmId));
  return each(context, ids, { step: action.step, key: "vmId", act });
}
