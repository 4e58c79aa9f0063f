// Runs the rows, one after the other, in a state directory of their own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeMachine } from "./machine.mjs";
import { collectPhases } from "./phases.mjs";
import { ROWS } from "./rows/index.mjs";
import { summarize } from "./stats.mjs";

/**
 * @param {{ samples: number, only: string }} options
 * @returns The report that is printed as JSON. Times are in milliseconds unless a row says otherwise.
 */
export async function runBench({ samples, only }) {
  const stateDir = mkdtempSync(join(tmpdir(), "smolvm-bench-"));
  const report = { date: new Date().toISOString(), machine: await describeMachine(), unit: "ms", rows: [] };
  try {
    for (const group of ROWS) {
      if (!group.names.some((name) => name.includes(only))) continue;
      const reason = group.needs?.();
      if (reason !== undefined) {
        process.stderr.write(`${group.names[0]}: not measured, ${reason}\n`);
        continue;
      }
      const phases = collectPhases(group.phases ?? []);
      const taken = await group.measure({ stateDir, samples });
      const collected = phases.stop();
      for (const name of group.names) {
        const row = { name, unit: group.unit ?? "ms", ...summarize(taken[name]) };
        report.rows.push(row);
        process.stderr.write(`${line(row)}\n`);
      }
      for (const phase of collected) process.stderr.write(`${line({ ...phase, name: `    ${phase.name}` })}\n`);
      report.rows.at(-1).phases = collected;
    }
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
  return report;
}

function line({ name, n, p50, p95 }) {
  return `${name.padEnd(62)} p50 ${p50.toFixed(1).padStart(8)}   p95 ${p95.toFixed(1).padStart(8)}   n ${n}`;
}
