// Which packages SmolVM wants from the host's package manager, why, and how their presence is seen. Data only.

import type { Architecture } from "./architecture.js";
import { DEBIAN_KEYRING } from "./checks/image-tools.js";

/** How the presence of a package is seen: by what it brings, whoever installed it. */
export type Evidence =
  | { readonly kind: "programs"; readonly names: readonly string[] }
  | { readonly kind: "qemu" }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "go"; readonly atLeast: readonly [number, number] };

/** One package SmolVM may need. */
export interface HostPackage {
  /** Debian's and Ubuntu's name, by architecture. */
  readonly apt: Readonly<Record<Architecture, string>>;
  /** Homebrew's name, where SmolVM has a use for it on macOS. */
  readonly brew?: string;
  readonly evidence: Evidence;
  /** What it is for, shown to the user. */
  readonly purpose: string;
  /** Needed only to build SmolVM from a checkout. */
  readonly onlyForBuilding?: true;
}

/** Oldest Go that the guest agent is written for: Debian 12 has 1.19, Ubuntu 22.04 has 1.18. */
const OLDEST_GO = [1, 18] as const;

/** Every package, in the order in which it is shown. */
export const HOST_PACKAGES: readonly HostPackage[] = [
  {
    apt: { x86_64: "qemu-system-x86", aarch64: "qemu-system-arm" },
    brew: "qemu",
    evidence: { kind: "qemu" },
    purpose: "runs the microVMs",
  },
  { apt: same("passt"), evidence: programs("passt"), purpose: "network without root" },
  { apt: same("mmdebstrap"), evidence: programs("mmdebstrap"), purpose: "builds images from Debian packages" },
  {
    apt: same("debian-archive-keyring"),
    evidence: { kind: "file", path: DEBIAN_KEYRING },
    purpose: "verifies Debian packages",
  },
  { apt: same("e2fsprogs"), evidence: programs("mke2fs"), purpose: "makes root file systems" },
  { apt: same("zstd"), evidence: programs("zstd"), purpose: "unpacks kernels" },
  { apt: same("xz-utils"), evidence: programs("xz"), purpose: "unpacks kernels and modules" },
  { apt: same("fakeroot"), evidence: programs("fakeroot"), purpose: "keeps file owners in images built without root" },
  { apt: same("uidmap"), evidence: programs("newuidmap", "newgidmap"), purpose: "image builds without root" },
  { apt: same("util-linux"), evidence: programs("unshare", "setpriv"), purpose: "namespaces" },
  { apt: same("nftables"), evidence: programs("nft"), purpose: "firewall of the TAP network mode" },
  { apt: same("iproute2"), evidence: programs("ip"), purpose: "devices of the TAP network mode" },
  { apt: same("openssh-client"), evidence: programs("ssh", "scp", "sftp"), purpose: "`smolvm ssh`" },
  {
    apt: same("ca-certificates"),
    evidence: { kind: "file", path: "/etc/ssl/certs/ca-certificates.crt" },
    purpose: "verifies downloads",
  },
  {
    apt: same("golang-go"),
    brew: "go",
    evidence: { kind: "go", atLeast: OLDEST_GO },
    purpose: "builds the guest agent",
    onlyForBuilding: true,
  },
];

/** `[major, minor]` of `go version`, or `undefined` when the text is not Go's. */
export function parseGoVersion(text: string): readonly [number, number] | undefined {
  const match = /^go version (?:go|devel go)(\d+)\.(\d+)/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

function same(name: string): Readonly<Record<Architecture, string>> {
  return { x86_64: name, aarch64: name };
}

function programs(...names: readonly string[]): Evidence {
  return { kind: "programs", names };
}
