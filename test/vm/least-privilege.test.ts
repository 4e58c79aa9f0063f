// What the processes of a VM may do when the program that starts it is root.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeNamespaces, type Namespaces } from "../support/namespaces.js";
import { Program } from "../support/program.js";
import { testState } from "../support/state.js";

const isRoot = process.platform === "linux" && process.getuid?.() === 0;
if (!isRoot) console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: only root has rights to give up`);

const state = testState();
const NOBODY = 65_534;
/** SENTINEL_USER of src/network/tap/tap-guard.ts: no other program's, so that none can stop the sentinel. */
const SENTINEL = 65_525;
/** Numbers of capabilities in <linux/capability.h>: CAP_DAC_OVERRIDE, those for files, 0 to 4, and CAP_NET_ADMIN. */
const [DAC_OVERRIDE, FILES, NET_ADMIN] = [1n << 1n, 0b11111n, 1n << 12n];

/** What each may have: user and capabilities. */
const ALLOWED: Readonly<Record<string, { readonly uid: number; readonly capabilities: bigint }>> = {
  "qemu-system-x86_64": { uid: 0, capabilities: DAC_OVERRIDE },
  logkeeper: { uid: 0, capabilities: DAC_OVERRIDE },
  hostfs: { uid: 0, capabilities: FILES },
  netguard: { uid: NOBODY, capabilities: 0n },
  passt: { uid: NOBODY, capabilities: 0n },
  tapguard: { uid: NOBODY, capabilities: 0n },
  "tapguard-sentinel": { uid: SENTINEL, capabilities: NET_ADMIN },
  portd: { uid: NOBODY, capabilities: 0n },
};

describe.skipIf(!isRoot)("under root", () => {
  let namespaces: Namespaces;
  let program: Program;

  beforeAll(async () => {
    namespaces = makeNamespaces("nameserver 127.0.0.53\n", []);
    program = await Program.start({ wrap: namespaces.onHost });
  });

  afterAll(async () => {
    await program?.end();
    await namespaces?.[Symbol.asyncDispose]();
  });

  it.each([
    ["user", ["netguard", "passt"]],
    ["tap", ["tapguard", "tapguard-sentinel"]],
  ] as const)('no process of a VM with network "%s" has more than it needs', async (mode, guards) => {
    const network = { mode, egress: { allow: ["a.example", "203.0.113.7"] } };
    const mounts = [{ hostPath: import.meta.dirname, guestPath: "/mnt/tests" }];
    const vmId = await program.call("boot", state.config({ network, mounts, ports: [{ guest: 80 }] }));
    try {
      const found = processesOf(namespaces.onHost[3] ?? "");
      const expected = ["hostfs", "logkeeper", "portd", "qemu-system-x86_64", ...guards];
      expect([...new Set(found.map(({ name }) => name))].sort()).toEqual(expected.sort());
      for (const { name, uids, capabilities, noNewPrivileges } of found) {
        const allowed = ALLOWED[name];
        expect({ name, uids: [...new Set(uids)] }).toEqual({ name, uids: [allowed?.uid] });
        expect({ name, beyond: capabilities & ~(allowed?.capabilities ?? 0n) }).toEqual({ name, beyond: 0n });
        expect({ name, noNewPrivileges }).toEqual({ name, noNewPrivileges: true });
      }
      // The one that may still change the host's network: exactly that, and nothing that a program of its could gain.
      const sentinels = found.filter(({ name }) => name === "tapguard-sentinel").map(({ sets }) => sets);
      const wanted = { CapInh: 0n, CapPrm: NET_ADMIN, CapEff: NET_ADMIN, CapBnd: 0n, CapAmb: 0n };
      expect(sentinels).toEqual(mode === "tap" ? [wanted] : []);
    } finally {
      await program.call("delete", vmId);
    }
  });
});

/** The processes of the "host", but for those of this test. */
function processesOf(namespace: string) {
  const own = new Set(["node"]);
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) => readProcess(pid) ?? [])
    .filter(({ name, directory }) => !own.has(name) && isIn(namespace, directory));
}

function isIn(namespace: string, directory: string): boolean {
  return inodeOf(join(directory, "ns/net")) === inodeOf(`/run/netns/${namespace}`);
}

/** `undefined` for a process that has ended, and for one that not even root may look at. */
function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch {
    return undefined;
  }
}

function readProcess(pid: string) {
  const directory = join("/proc", pid);
  try {
    const status = readFileSync(join(directory, "status"), "latin1");
    const [program = ""] = readFileSync(join(directory, "cmdline"), "latin1").split("\0");
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
    const capabilities = (set: string) => BigInt(`0x${field(set)}`);
    return {
      name: (program.split("/").at(-1) ?? "").replace(/(-amd64|-arm64|\.avx2)$/, ""),
      directory,
      uids: field("Uid").split(/\s+/).map(Number),
      capabilities: ["CapInh", "CapPrm", "CapEff", "CapAmb"].reduce((all, set) => all | capabilities(set), 0n),
      sets: Object.fromEntries(
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map((set) => [set, capabilities(set)]),
      ),
      noNewPrivileges: field("NoNewPrivs") === "1",
    };
  } catch {
    return undefined; // It has ended, or is a thread of the kernel.
  }
}
