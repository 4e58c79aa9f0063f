// The built program `smolvm` as a child process, with a state directory of its own and the shared image cache.

import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const CLI_PATH = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunningCli {
  readonly child: ChildProcess;
  /** Stdout so far. */
  output(): string;
  readonly ended: Promise<Ended>;
}

/** One state directory; disposing it checks nothing, {@link CliProgram.leftovers} does. */
export class CliProgram implements Disposable {
  readonly stateDir = mkdtempSync(join(tmpdir(), "smolvm-cli-test-"));
  readonly env = { ...process.env, SMOLVM_STATE_DIR: this.stateDir };

  /** Starts the program. `stdin`: given to it whole; without it stdin is empty; `null` keeps it open. */
  start(args: readonly string[], stdin?: Uint8Array | null): RunningCli {
    return watch(spawn(process.execPath, [CLI_PATH, ...args], { env: this.env }), stdin);
  }

  run(args: readonly string[], stdin?: Uint8Array): Promise<Ended> {
    return this.start(args, stdin).ended;
  }

  /** Runs a line of bash in which `smolvm` is the program. */
  async bash(line: string): Promise<Ended> {
    const script = `smolvm() { "${process.execPath}" "${CLI_PATH}" "$@"; }\n${line}`;
    return watch(spawn("bash", ["-c", script], { env: this.env })).ended;
  }

  async json(args: readonly string[]) {
    const { stdout, exitCode, stderr } = await this.run([...args.slice(0, 1), "--json", ...args.slice(1)]);
    const document = JSON.parse(stdout.toString());
    return { ...document, realExitCode: exitCode, stderr };
  }

  /** What VMs have left on this host: directories, sockets, and processes that name either. */
  leftovers(): readonly string[] {
    const vms = join(this.stateDir, "vms");
    const tag = createHash("sha256").update(this.stateDir).digest("hex").slice(0, 8);
    const runtimeDirs = RUNTIME_ROOTS.map((root) => join(root, tag));
    return [
      ...[vms, ...runtimeDirs].flatMap(entries),
      ...processesNaming(this.stateDir),
      ...processesNaming(`/${tag}/`),
    ];
  }

  [Symbol.dispose](): void {
    rmSync(this.stateDir, { recursive: true, force: true });
  }
}

/** Where sockets may be; see src/host/paths.ts. */
const RUNTIME_ROOTS = [
  "/run/smolvm",
  join(process.env["XDG_RUNTIME_DIR"] ?? "/nowhere", "smolvm"),
  join(tmpdir(), `smolvm-${process.getuid?.() ?? 0}`),
];

function entries(directory: string): readonly string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

function watch(child: ChildProcess, stdin?: Uint8Array | null): RunningCli {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on("data", (chunk) => stdout.push(chunk));
  child.stderr?.on("data", (chunk) => stderr.push(chunk));
  child.stdin?.on("error", () => {}); // The program may end before it has read all.
  if (stdin !== null) child.stdin?.end(stdin);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (exitCode, signal) => {
      resolve({ exitCode, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() });
    });
  });
  return { child, output: () => Buffer.concat(stdout).toString(), ended };
}

/** Command lines of processes in which a text occurs (Linux). */
export function processesNaming(text: string): readonly string[] {
  if (!existsSync("/proc")) return [];
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      return line.includes(text) ? [`${pid}: ${line}`] : [];
    } catch {
      return []; // It ended meanwhile.
    }
  });
}

/** Waits until something holds. */
export async function until(holds: () => boolean | Promise<boolean>, limitMs = 60_000): Promise<void> {
  const endAt = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > endAt) throw new Error(`did not come about within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
