// `smolvm setup`.

import { SmolVMError } from "../../errors/smolvm-error.js";
import type { SetupReport } from "../../index.js";
import type { CommandModule } from "../command.js";

interface SetupCommandOptions {
  readonly dryRun?: boolean;
  readonly build?: boolean;
}

export const command: CommandModule<SetupCommandOptions> = {
  isLong: true,

  configure(command) {
    command
      .option("--dry-run", "change nothing; only say what would be done")
      .option("--build", "also what building SmolVM from a checkout needs");
  },

  async run({ host, signal, onProgress }, { options }) {
    const { setupHost } = await host.loadSdk();
    onProgress({ step: "Looking for what is missing" });
    const report = await setupHost({
      dryRun: options.dryRun ?? false,
      forBuilding: options.build ?? false,
      signal,
      onProgress,
    });
    return { data: report, text: setupText(report), failures: report.status === "manual" ? [manual(report)] : [] };
  },
};

/** The report as people read it. */
export function setupText(report: SetupReport): string {
  const { tapNetwork } = report;
  return [packagesText(report), ...(tapNetwork.length === 0 ? [] : ["", ...tapNetwork])].join("\n");
}

function packagesText({ status, missing, unavailable, commands }: SetupReport): string {
  const names = missing.map(({ name, purpose }) => `  ${name}: ${purpose}`);
  if (status === "ready") return "Nothing is missing.";
  if (status === "installed") return ["Installed:", ...names].join("\n");
  const lines = ["Missing:", ...names];
  if (unavailable.length > 0) lines.push(`No package source here offers: ${unavailable.join(", ")}`);
  if (commands.length > 0) lines.push("Run:", ...commands.map((command) => `  ${command}`));
  return lines.join("\n");
}

function manual({ reason = "that is left to you", commands, missing }: SetupReport): SmolVMError {
  const text = `Not everything was installed: ${reason}`;
  const hint = commands.length > 0 ? "Run the commands that are listed." : undefined;
  return new SmolVMError("HOST_UNSUPPORTED", text, { details: { missing: missing.map(({ name }) => name) }, hint });
}
