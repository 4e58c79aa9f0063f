// The Go programs in agent/cmd: what runs in the guest and what runs beside the VMM on the host.
// Standard library only, so nothing is ever downloaded.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun, run } from "./child.mjs";
import { ROOT } from "./root.mjs";

/** Directory of the Go module. */
export const AGENT_DIR = join(ROOT, "agent");
const OUTPUT_DIR = join(ROOT, "dist/programs");
const COMMANDS_DIR = join(AGENT_DIR, "cmd");
/** Programs that run in the guest, which is always Linux; all others run on the host. */
const GUEST_COMMANDS = ["agent"];
const ARCHITECTURES = ["amd64", "arm64"];
const BUILD_ARGS = ["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid="];

/** Environment of every go command here: the local toolchain, no C compiler, no network. */
export const GO_ENV = { CGO_ENABLED: "0", GOFLAGS: "-mod=mod", GOTOOLCHAIN: "local", GOPROXY: "off" };

/** True when `go` can be started. */
export async function hasGo() {
  try {
    return (await run(["go", "version"])).code === 0;
  } catch {
    return false;
  }
}

/**
 * Builds every directory of agent/cmd to `dist/programs/<name>-<goarch>` unless its sources are those of the last build.
 *
 * @param {{ allArchitectures?: boolean, onProgress?: (event: { step: string, detail?: string }) => void }} [options]
 */
export async function buildGo({ allArchitectures = false, onProgress } = {}) {
  if (!existsSync(COMMANDS_DIR)) return;
  const hostArchitecture = process.arch === "x64" ? "amd64" : process.arch;
  const hostSystem = process.platform === "darwin" ? "darwin" : "linux";
  const names = readdirSync(COMMANDS_DIR).filter((name) => existsSync(join(COMMANDS_DIR, name, "main.go")));
  const sources = hashSources();
  mkdirSync(OUTPUT_DIR, { recursive: true });
  for (const name of names) {
    for (const architecture of allArchitectures ? ARCHITECTURES : [hostArchitecture]) {
      const system = GUEST_COMMANDS.includes(name) ? "linux" : hostSystem;
      const output = join(OUTPUT_DIR, `${name}-${architecture}`);
      const stamp = `${sources} ${system} ${BUILD_ARGS.join(" ")}\n`;
      if (existsSync(output) && readStamp(output) === stamp) continue;
      onProgress?.({ step: "Building Go programs", detail: `${name} for ${system}/${architecture}` });
      await mustRun(["go", ...BUILD_ARGS, "-o", output, `./cmd/${name}`], {
        cwd: AGENT_DIR,
        env: { ...GO_ENV, GOOS: system, GOARCH: architecture },
      });
      writeFileSync(stampPath(output), stamp);
    }
  }
}

function stampPath(output) {
  return `${output}.stamp`;
}

function readStamp(output) {
  return existsSync(stampPath(output)) ? readFileSync(stampPath(output), "utf8") : undefined;
}

/** One hash over the names and contents of all Go sources. */
function hashSources() {
  const hash = createHash("sha256");
  const files = readdirSync(AGENT_DIR, { recursive: true })
    .filter((path) => (path.endsWith(".go") && !path.endsWith("_test.go")) || path === "go.mod")
    .sort();
  for (const path of files)
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(AGENT_DIR, path)))
      .update("\0");
  return hash.digest("hex");
}
