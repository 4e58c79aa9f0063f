// What must differ between two VMs that go on from the same image, however they came to be.

import { expect } from "vitest";
import type { Vm } from "./smolvm.js";

/** How far a copy's wall clock may be from the host's when its first command looks, in milliseconds. */
const CLOCK_TOLERANCE_MS = 50;

/** What one machine says of itself in its first command and in the ones after it. */
export interface Machine {
  readonly vm: Vm;
  /** By name, each to be different in every machine. */
  readonly own: Readonly<Record<string, string>>;
  /** sha256 of files that say which machine this is, by path. */
  readonly files: Readonly<Record<string, string>>;
  readonly generation: number;
}

/** Each prints what must be this machine's alone. */
const OWN: Readonly<Record<string, string>> = {
  hostname: "cat /proc/sys/kernel/hostname",
  hostnameFile: "cat /etc/hostname",
  hosts: "grep 127.0.1.1 /etc/hosts",
  machineId: "cat /etc/machine-id",
  bootId: "cat /proc/sys/kernel/random/boot_id",
  sshHostKey: "ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub",
  urandom: "head -c 32 /dev/urandom | base64 -w0",
  uuid: "cat /proc/sys/kernel/random/uuid",
  getrandom: "python3 -c 'import os; print(os.getrandom(32).hex())'",
  newProcess: "mktemp -u XXXXXXXXXXXXXXXX",
};
const OWN_WITH_NETWORK: Readonly<Record<string, string>> = {
  macAddress: "cat /sys/class/net/eth0/address",
  ipAddress: "ip -4 -o address show dev eth0 | grep -o 'inet [0-9.]*'",
};
/** Where an image's machine might have left something that is known by its content. */
const FILES = "/etc/machine-id /etc/hostname /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/dbus/machine-id";
/** The same everywhere, and meant to be: how often it was copied, and the host's DNS. */
const SHARED_FILES = ["/run/smolvm/generation", "/run/smolvm/etc/resolv.conf"];

/** Looks at a machine that nobody has run a command in. */
export async function lookAt(vm: Vm): Promise<Machine> {
  // Not a login shell: the first instruction of the user's.
  const before = Date.now();
  const first = await vm.exec(["date", "+%s%N"]);
  const after = Date.now();
  // Exactly this and nothing else: also no byte of what another client once asked for.
  expect(first).toMatchObject({
    stdout: expect.stringMatching(/^\d{19}\n$/),
    stderr: "",
    exitCode: 0,
    truncated: false,
  });
  const guestMs = Number(first.output) / 1e6;
  expect(guestMs).toBeGreaterThan(before - CLOCK_TOLERANCE_MS);
  expect(guestMs).toBeLessThan(after + CLOCK_TOLERANCE_MS);
  const hasNetwork = (await vm.info()).network !== "none";
  // One made from the MAC address of the machine that it was copied from would be the same in all copies.
  if (hasNetwork) expect((await vm.run("ip -6 -o address show dev eth0")).stdout).toBe("");
  const commands = { ...OWN, ...(hasNetwork ? OWN_WITH_NETWORK : {}) };
  const asked = Object.entries(commands).map(([name, command]) => `echo "${name} $(${command})"`);
  const own = pairs((await vm.run(asked.join("\n"), { check: true })).stdout);
  const sums = await vm.run(`find ${FILES} /run/smolvm ! -type d 2> /dev/null | sort | xargs sha256sum`);
  // Each line: the sum, two blanks, the path.
  const files = Object.fromEntries(
    sums.stdout
      .trim()
      .split("\n")
      .map((line) => [line.slice(66), line.slice(0, 64)]),
  );
  return { vm, own, files, generation: Number((await vm.exec(["cat", "/run/smolvm/generation"])).output) };
}

/** Two machines that go on from one image, which was itself a copy of the given generation. */
export function expectTwoMachines(one: Machine, two: Machine, imageGeneration: number): void {
  expect(Object.keys(one.own)).toEqual(Object.keys(two.own));
  for (const [name, value] of Object.entries(one.own)) {
    expect(value, name).toMatch(/\S/);
    expect(two.own[name], name).not.toBe(value);
  }
  for (const { vm, own, files, generation } of [one, two]) {
    expect(own).toMatchObject({ hostname: vm.vmId, hostnameFile: vm.vmId, hosts: `127.0.1.1\t${vm.vmId}` });
    expect(own["machineId"]).toMatch(/^[0-9a-f]{32}$/);
    expect(generation).toBe(imageGeneration + 1);
    for (const path of ["/etc/machine-id", "/etc/hostname", "/etc/ssh/ssh_host_ed25519_key", "/run/smolvm/boot_id"]) {
      expect(Object.keys(files)).toContain(path);
    }
  }
  const shared = Object.keys(one.files).filter((path) => one.files[path] === two.files[path]);
  expect(shared.filter((path) => !SHARED_FILES.includes(path))).toEqual([]);
}

/** First word of each line to the rest of it. */
function pairs(text: string): Record<string, string> {
  const lines = text.trim().split("\n");
  return Object.fromEntries(lines.map((line) => [line.split(" ", 1)[0], line.slice(line.indexOf(" ") + 1)]));
}
