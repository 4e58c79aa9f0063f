// `smolvm doctor`.

import { SmolVMError } from "../../errors/smolvm-error.js";
import type { DoctorReport } from "../../index.js";
import type { CommandModule } from "../command.js";

const MARKS = { ok: "ok  ", warn: "warn", fail: "FAIL" } as const;
/** Below the titles of checks. */
const INDENT = "      ";

export const command: CommandModule = {
  configure() {},

  async run({ host, signal, onProgress }) {
    const { diagnoseHost } = await host.loadSdk();
    onProgress({ step: "Checking this host" });
    const report = await diagnoseHost({ signal });
    return { data: report, text: doctorText(report), failures: report.ok ? [] : [notOk(report)] };
  },
};

/** The report as people read it: every check with its remedy, then what is promised here. */
export function doctorText({ ok, checks, promises }: DoctorReport): string {
  const checkLines = checks.flatMap(({ status, title, found, remedy, isRequired }) => [
    `${MARKS[status]}  ${title}: ${found}${status === "fail" && !isRequired ? " (not needed by default)" : ""}`,
    ...(remedy === undefined || status === "ok" ? [] : remedy.split("\n").map((line) => `${INDENT}${line}`)),
  ]);
  const promiseLines = promises.map(({ holds, text, because }) =>
    holds ? `yes   ${text}` : `no    ${text}: ${because}`,
  );
  const verdict = ok ? "This host can run SmolVM." : "This host cannot run SmolVM yet.";
  return [...checkLines, "", "Promises on this host:", ...promiseLines, "", verdict].join("\n");
}

function notOk({ checks }: DoctorReport): SmolVMError {
  const failed = checks.filter(({ status, isRequired }) => status === "fail" && isRequired);
  const text = `This host lacks what SmolVM needs: ${failed.map(({ title }) => title).join(", ")}`;
  const hint = failed.find(({ remedy }) => remedy !== undefined)?.remedy;
  return new SmolVMError("HOST_UNSUPPORTED", text, { details: { failed: failed.map(({ id }) => id) }, hint });
}
