// The doctor's question whether another firewall of this host drops the packets of TAP guests.

import type { CheckContext, CheckResult, HostCheck } from "../../host/checks/check.js";
import { nftCheck } from "../../host/checks/network-tools.js";
import { forwardBlockers } from "./forward-blockers.js";

export const forwardCheck: HostCheck = {
  id: "tap-forwarding",
  title: "firewall and TAP",
  requiredFor: "tap-network",
  run: checkForwarding,
};

async function checkForwarding(context: CheckContext): Promise<CheckResult> {
  if ((await nftCheck.run(context)).status !== "ok") {
    return { status: "ok", found: "not looked at: this program cannot make TAP networks" };
  }
  const blockers = await forwardBlockers(context.deadline);
  if (blockers.length === 0) return { status: "ok", found: "no chain of others drops what guests send by its policy" };
  const names = blockers.map(({ name }) => name).join(", ");
  return {
    status: "warn",
    found: `${names} drops what TAP guests send or get beyond this host, unless a rule of it lets them through`,
    remedy: ["Let them through, as root:", ...blockers.flatMap(({ remedy }) => remedy)].join("\n"),
  };
}
