// `smolvm reconcile`.

import { SmolVMError } from "../../errors/smolvm-error.js";
import type { ReconcileReport } from "../../index.js";
import type { CommandModule } from "../command.js";

export const command: CommandModule = {
  configure() {},

  async run({ host }) {
    const { reconcile } = await host.loadSdk();
    const report = await reconcile();
    return { data: report, text: reconcileText(report), failures: report.failed.length > 0 ? [notDone(report)] : [] };
  },
};

/** The report as people read it. */
export function reconcileText(report: ReconcileReport): string {
  const lines = (["cleaned", "failed", "skipped"] as const).flatMap((kind) =>
    report[kind].map(({ subject, what }) => `${kind}: ${subject}: ${what}`),
  );
  return lines.length > 0 ? lines.join("\n") : "Records and host agree.";
}

function notDone({ failed }: ReconcileReport): SmolVMError {
  const text = `Cannot bring to agreement: ${failed.map(({ subject }) => subject).join(", ")}`;
  return new SmolVMError("STORAGE_FAILED", text, { details: { failed }, hint: "Run `smolvm reconcile` again." });
}
