// What SmolVM promises on a host, and which checks decide whether each promise holds there.

import type { CheckResult, HostNeed } from "./check.js";

/** One promise and whether it holds on this host. */
export interface HostPromise {
  readonly id: string;
  /** The promise, in words. */
  readonly text: string;
  readonly holds: boolean;
  /** Why it holds or does not. */
  readonly because: string;
}

/** Results by check id. */
export type ResultsById = ReadonlyMap<string, CheckResult>;

interface PromiseRule {
  readonly id: string;
  readonly text: string;
  /** Ids of the checks that must all be `ok`. */
  readonly restsOn: readonly string[];
  /** A check that may also be `warn`. */
  readonly tolerates?: readonly string[];
  /** What its absence means, where the checks' own words do not say it. */
  readonly otherwise?: string;
  /** The host may be able to, but this version of SmolVM does not do it. */
  readonly notYet?: boolean;
}

const RULES: readonly PromiseRule[] = [
  {
    id: "run",
    text: "Commands run in a microVM of their own",
    restsOn: ["node", "qemu", "memory", "disk-space"],
    tolerates: ["memory", "disk-space"],
  },
  {
    id: "hardware-isolation",
    text: "Guests are isolated by hardware virtualization",
    restsOn: ["accelerator"],
    // QEMU manual, "Security": https://www.qemu.org/docs/master/system/security.html
    otherwise:
      "guests run by software emulation (TCG), which QEMU's own documentation does not count as a security boundary",
  },
  {
    id: "vmm-confined",
    text: "The VMM itself is confined by a seccomp filter",
    restsOn: ["qemu-sandbox"],
  },
  {
    id: "vmm-unprivileged",
    text: "The VMM runs without root's rights",
    restsOn: ["vmm-user"],
  },
  {
    id: "rootless-network",
    text: "Guests reach the internet without root, and cannot reach this host",
    restsOn: ["passt", "default-route"],
  },
  {
    id: "tap-network",
    text: "The TAP network mode with nftables rules is available",
    restsOn: ["nft"],
  },
  {
    id: "image-builds",
    text: "Images are built on this machine from Debian packages",
    restsOn: ["image-tools", "namespaces"],
    tolerates: ["namespaces"],
  },
  {
    id: "resource-limits",
    text: "A VM's processes are held to memory, process and CPU limits by a cgroup",
    restsOn: ["cgroups"],
    notYet: true,
  },
];

/** Evaluates every promise against the checks' results. */
export function evaluatePromises(results: ResultsById): readonly HostPromise[] {
  return RULES.map(({ id, text, restsOn, tolerates = [], otherwise, notYet = false }) => {
    if (notYet) return { id, text, holds: false, because: "this version of SmolVM does not do that yet" };
    const holdsFor = (check: string) => {
      const status = results.get(check)?.status;
      return status === "ok" || (status === "warn" && tolerates.includes(check));
    };
    const broken = restsOn.filter((check) => !holdsFor(check));
    const named = broken.length === 0 ? restsOn : broken;
    const facts = named.map((check) => results.get(check)?.found ?? `"${check}" was not checked`).join("; ");
    const because = broken.length > 0 && otherwise !== undefined ? `${otherwise} (${facts})` : facts;
    return { id, text, holds: broken.length === 0, because };
  });
}

/** What `SmolVM.create()` with nothing but defaults needs. */
export function mainJobNeeds(hasDefaultImage: boolean): readonly HostNeed[] {
  return hasDefaultImage ? ["run", "network"] : ["run", "network", "image-build"];
}
