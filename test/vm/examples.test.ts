// The examples of examples/ run as they are, on this Node, against the built package.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { text } from "node:stream/consumers";
import { beforeAll, describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
const NAMES = readdirSync(join(ROOT, "examples")).map((name) => basename(name, ".ts"));

/** What each must print; an example that is not named here fails. */
const EXPECTED: Readonly<Record<string, readonly RegExp[]>> = {
  files: [
    /^1 file up, down came: two,three,one$/m,
    /^in the guest: note,sorted.txt,words.txt$/m,
    /^missing: ENOENT$/m,
    /^refused: nothing is removed here$/m,
  ],
  fork: [
    ...[0, 1, 2].map((n) => new RegExp(`^attempt ${n}: made ready once, attempt ${n}, 1 sleeping$`, "m")),
    /^the first VM: made ready once$/m,
    /^after the undo: made ready once\n42$/m,
  ],
  manager: [
    /^example-web, example-db$/m,
    /^example-db: running \(\w+\), pid \d+$/m,
    /^reconcile: 0 cleaned, 0 failed$/m,
  ],
  network: [
    /^the guest is told: SmolVM$/m,
    /^refused http to evil\.example\.com:80 .* would permit it$/m,
    /^refused tcp to 192\.0\.2\.1:25: no entry of allow covers it; .*$/m,
    /^the guest serves: its name$/m,
  ],
  pool: [
    /^6 \* 7 = 42$/m,
    /^2 \*\* 20 = 1048576$/m,
    /^sum\(range\(100\)\) = 4950$/m,
    /^len\('microVM'\) = 7$/m,
    /^pool of 2: 4 taken, some of them were ready$/m,
  ],
  processes: [
    /^first: tick$/m,
    /^calculator: 42$/m,
    /^terminal: \/dev\/pts\/\d+, 40 120$/m,
    /^detached: ready, got a line \(exit 0\)$/m,
  ],
  "run-untrusted": [/status: 'ok',\s+stdout: '285\\n'/, /status: 'failed'/],
  streaming: [
    /^sorted: 1 2 3$/m,
    /^\[stdout\] line 3$/m,
    /^\[stderr\] done$/m,
    /^sleeping processes in the guest: 0$/m,
  ],
  "two-step": [/call start\(\) first$/m, /^after stop and start: hello, disk$/m, /^left: 0 VMs$/m],
};

describe("the example", () => {
  let outcome: { code: unknown; stderr: string };
  /** Output of each, by its name. */
  let outputs: ReadonlyMap<string, string>;

  beforeAll(async () => {
    const child = spawn(process.execPath, ["scripts/examples.mjs"], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    outcome = { code, stderr };
    const parts = stdout.split(/^--- (.+)$/m).slice(1);
    outputs = new Map(NAMES.map((name) => [name, parts[parts.indexOf(name) + 1] ?? ""]));
  });

  it("that is there ends without an error", () => {
    expect(outcome).toEqual({ code: 0, stderr: "" });
  });

  it.each(NAMES)("%s prints what it should", (name) => {
    for (const pattern of EXPECTED[name] ?? [/^no expectation$/]) expect(outputs.get(name)).toMatch(pattern);
  });
});
