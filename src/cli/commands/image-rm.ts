// `smolvm image rm`.

import type { RemovedEntry } from "../../index.js";
import type { CommandModule } from "../command.js";
import { errorReport } from "../output/error-text.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<image...>", "names of images, or beginnings of images' digests and templates' keys");
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
    const paths = removed.flatMap(({ path, templates = [] }) => [...templates.map((template) => template.path), path]);
    return { data: reports, text: paths.join("\n"), failures };
  },
};
