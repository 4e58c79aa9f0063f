// npm test: set-up, `npm run check`, Go tests, then vitest, which boots real microVMs. Extra arguments go to vitest.
// The last line is `N passed, N failed, N skipped`. A test that is skipped without an allowed gate fails the run.

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeProgram, run } from "./lib/child.mjs";
import { AGENT_DIR, GO_ENV } from "./lib/go.mjs";
import { Phases } from "./lib/phases.mjs";
import { prepare } from "./lib/prepare.mjs";
import { ROOT } from "./lib/root.mjs";

const phases = new Phases();
const total = { passed: 0, failed: 0, skipped: 0, problems: [] };

try {
  await prepare(phases);
  await phases.run("check", runCheck);
  await phases.run("go test", runGoTests);
  await phases.run("vitest", () => runVitest(process.argv.slice(2)));
} catch (error) {
  total.failed += 1;
  total.problems.push(error.hint === undefined ? String(error.message) : `${error.message}\n  ${error.hint}`);
}
report();

async function runCheck() {
  const { code } = await run([process.execPath, "scripts/check.mjs"], { show: true });
  if (code === 0) return;
  total.failed += 1;
  total.problems.push("npm run check failed");
}

async function runGoTests() {
  if (!existsSync(AGENT_DIR)) return;
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const outputs = new Map();
  const onLine = (line) => {
    const event = parseEvent(line);
    if (event === undefined) return;
    const key = `${event.Package ?? event.ImportPath} ${event.Test ?? ""}`;
    if (event.Output !== undefined) outputs.set(key, (outputs.get(key) ?? "") + event.Output);
    if (event.Action === "fail" || event.Action === "build-fail") process.stdout.write(outputs.get(key) ?? "");
    if (event.Test === undefined) return;
    if (event.Action === "pass") counts.passed += 1;
    if (event.Action === "fail") counts.failed += 1;
    if (event.Action === "skip") {
      counts.skipped += 1;
      total.problems.push(`skipped Go test: ${key}: ${(outputs.get(key) ?? "").trim()}`);
    }
  };
  const { code, output } = await run(["go", "test", "-json", "./..."], { cwd: AGENT_DIR, env: GO_ENV, onLine });
  if (code !== 0 && counts.failed === 0) {
    counts.failed = 1;
    process.stdout.write(
      output
        .split("\n")
        .filter((line) => !line.startsWith("{"))
        .join("\n"),
    );
  }
  console.log(`go test: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped.`);
  add(counts);
}

function parseEvent(line) {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

async function runVitest(args) {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-test-"));
  const summaryFile = join(directory, "summary.json");
  try {
    const reporters = ["--reporter=default", `--reporter=${ROOT}/scripts/lib/vitest-summary.mjs`];
    const { code } = await run(nodeProgram("vitest/vitest.mjs", "run", ...reporters, ...args), {
      show: true,
      env: { SMOLVM_TEST_SUMMARY: summaryFile, ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }) },
    });
    const summary = existsSync(summaryFile) ? JSON.parse(readFileSync(summaryFile, "utf8")) : undefined;
    if (summary === undefined) {
      total.failed += 1;
      total.problems.push(`vitest ended with exit code ${code} and without a summary`);
      return;
    }
    add(summary);
    total.problems.push(...summary.problems);
    for (const { kind, reason, file } of summary.gates) console.log(`gate: ${kind}: ${reason} [${file}]`);
    if (code !== 0 && summary.failed === 0) {
      total.failed += 1;
      total.problems.push(`vitest ended with exit code ${code} though no test failed`);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function add({ passed, failed, skipped }) {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}

function report() {
  for (const problem of total.problems) console.log(`problem: ${problem}`);
  const isFine = total.failed === 0 && total.problems.length === 0 && total.passed > 0;
  process.exitCode = isFine ? 0 : 1;
  console.log(`\n${phases.table()}\n`);
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
}
