// `smolvm image rm`.

import type { RemovedEntry } from "../../index.js";
import type { CommandModule } from "../command.js";
import { errorReport } from "../output/error-text.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<image...>", "names, digests or digests' beginnings");
  },

  async run({ host, signal }, { args }) {
    const { removeImage } = await host.loadSdk();
    const reports: object[] = [];
    const removed: RemovedEntry[] = [];
    const failures: unknown[] = [];
    for (const image of new Set(args)) {
      try {
        const entry = await removeImage(image, { signal });
        removed.push(entry);
        reports.push({ image, ok: true, ...entry, error: null });
      } catch (error) {
        const { code, message, hint } = errorReport(error);
        failures.push(error);
        reports.push({ image, ok: false, error: { code, message, hint } });
      }
    }
    return { data: reports, text: removed.map(({ path }) => path).join("\n"), failures };
  },
};
