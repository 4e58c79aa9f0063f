// Runs the rows, one after the other, in a state directory of their own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeMachine } from "./machine.mjs";
import { ROWS } from "./rows.mjs";
import { summarize } from "./stats.mjs";

/**
 * @param {{ samples: number, only: string }} options
 * @returns The report that is printed as JSON. All times are in milliseconds.
 */
export async function runBench({ samples, only }) {
  const stateDir = mkdtempSync(join(tmpdir(), "smolvm-bench-"));
  const report = { date: new Date().toISOString(), machine: await describeMachine(), unit: "ms", rows: [] };
  try {
    for (const group of ROWS) {
      if (!group.names.some((name) => name.includes(only))) continue;
      const taken = await group.measure({ stateDir, samples });
      for (const name of group.names) {
        const row = { name, ...summarize(taken[name]) };
        report.rows.push(row);
        process.stderr.write(`${line(row)}\n`);
      }
    }
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
  return report;
}

function line({ name, n, p50, p95 }) {
  return `${name.padEnd(44)} p50 ${p50.toFixed(1).padStart(8)}   p95 ${p95.toFixed(1).padStart(8)}   n ${n}`;
}
