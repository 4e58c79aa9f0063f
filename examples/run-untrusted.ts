// A tool for an agent: runs Python code given as a string in a microVM of its own, with a time and an output limit.

import { type CommandResult, isSmolVMError, SmolVM } from "smolvm";

/** What the agent is told. */
interface ToolAnswer {
  readonly status: "ok" | "failed" | "timeout";
  readonly stdout: string;
  readonly stderr: string;
  /** True when the output was longer than the limit. */
  readonly isCut: boolean;
}

const TIME_LIMIT_MS = 15_000;
const OUTPUT_LIMIT_BYTES = 16 * 1024;

async function runPython(code: string): Promise<ToolAnswer> {
  // No network, and nothing of this VM is left when the function returns.
  await using vm = await SmolVM.create({ memSizeMib: 256, network: "none" });
  try {
    const result = await vm.exec(["python3", "-"], {
      stdin: code,
      timeoutMs: TIME_LIMIT_MS,
      maxOutputBytes: OUTPUT_LIMIT_BYTES,
    });
    const { ok, stdout, stderr, truncated } = result;
    return { status: ok ? "ok" : "failed", stdout, stderr, isCut: truncated };
  } catch (error) {
    if (!isSmolVMError(error, "COMMAND_TIMEOUT")) throw error;
    const { stdout, stderr, truncated } = error.details["result"] as CommandResult;
    return { status: "timeout", stdout, stderr, isCut: truncated };
  }
}

try {
  console.log(await runPython("print(sum(n * n for n in range(10)))"));
  console.log(await runPython("raise SystemExit('no such thing')"));
} catch (error) {
  // E.g. HOST_UNSUPPORTED: `smolvm doctor` says what is missing.
  if (!isSmolVMError(error)) throw error;
  console.error(`${error.code}: ${error.message}\n${error.hint}`);
  process.exitCode = error.exitStatus;
}
