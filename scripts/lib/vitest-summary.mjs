// A vitest reporter that counts: what passed, failed and was skipped, and whether each skip was announced by a gate.
// Writes JSON to the file that SMOLVM_TEST_SUMMARY names; scripts/test.mjs reads it.

import { writeFileSync } from "node:fs";
import { maySkip, parseGateLine } from "./gates.mjs";

/** The reporter. */
// biome-ignore lint/style/noDefaultExport: vitest loads a reporter by its default export.
export default class SummaryReporter {
  /** File path -> gates announced by it. */
  #gates = new Map();
  #vitest;

  onInit(vitest) {
    this.#vitest = vitest;
  }

  onUserConsoleLog({ content, taskId }) {
    const file = this.#fileOf(taskId);
    for (const line of content.split("\n")) {
      const gate = parseGateLine(line);
      if (gate !== undefined) this.#gates.set(file, [...(this.#gates.get(file) ?? []), gate]);
    }
  }

  onTestRunEnd(modules, unhandledErrors) {
    const summary = { passed: 0, failed: 0, skipped: 0, gates: [], problems: [] };
    for (const module of modules) this.#count(module, summary);
    for (const error of unhandledErrors) {
      summary.failed += 1;
      summary.problems.push(`unhandled error: ${error.message}`);
    }
    writeFileSync(process.env.SMOLVM_TEST_SUMMARY, JSON.stringify(summary));
  }

  #count(module, summary) {
    const gates = this.#gates.get(module.moduleId) ?? [];
    summary.gates.push(...gates.map((gate) => ({ ...gate, file: module.relativeModuleId })));
    const isGated = gates.some(({ kind }) => maySkip(kind));
    let seen = 0;
    for (const test of module.children.allTests()) {
      seen += 1;
      const { state } = test.result();
      if (state === "passed") summary.passed += 1;
      else if (state === "failed") summary.failed += 1;
      else {
        summary.skipped += 1;
        if (!isGated)
          summary.problems.push(`skipped without an allowed gate: ${module.relativeModuleId}: ${test.fullName}`);
      }
    }
    // A file that does not load, or whose hook fails, may count no failed test of its own.
    if (module.errors().length > 0 || (seen === 0 && module.state() === "failed")) {
      summary.failed += 1;
      summary.problems.push(`${module.relativeModuleId} failed outside its tests`);
    }
  }

  #fileOf(taskId) {
    const task = taskId === undefined ? undefined : this.#vitest.state.idMap.get(taskId);
    return task?.file?.filepath ?? "";
  }
}
