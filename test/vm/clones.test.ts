// A clone is a new machine: two clones of a template, two forks of a VM, two VMs from a snapshot. docs/clones.md is the
// list of what could be shared.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { listTemplates, SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { expectTwoMachines, lookAt, type Machine } from "../support/two-machines.js";
import { eventually } from "../support/wait.js";

const state = testState();
const fixture = (name: string) => readFileSync(join(import.meta.dirname, "../fixtures", name), "utf8");

/** What a program of test/fixtures/generator.py answers. */
interface Answer {
  readonly number: string;
  /** CLOCK_MONOTONIC as it is, and its smallest step so far, in nanoseconds. */
  readonly monotonic: number;
  readonly smallest: number;
  readonly steps: number;
}

async function ask(vm: Vm, kind: "honours" | "ignores"): Promise<Answer> {
  const { stdout } = await vm.run(`echo next > /root/${kind}/ask; cat /root/${kind}/answer`, { check: true });
  return JSON.parse(stdout) as Answer;
}

/** Starts both kinds of generator; they live on when the command has ended. */
async function startGenerators(vm: Vm): Promise<void> {
  await vm.exec(["tee", "/root/generator.py"], { stdin: fixture("generator.py"), check: true });
  for (const kind of ["honours", "ignores"]) {
    const line = `setsid python3 /root/generator.py /root/${kind} ${kind} > /root/${kind}.log 2>&1 &`;
    await vm.run(line, { orphans: "keep", check: true });
  }
  const ready = "cat /root/*.log; test -e /root/honours/ready -a -e /root/ignores/ready";
  await eventually(async () => ((await vm.run(ready)).ok ? true : undefined));
}

/** Starts a program that draws from the kernel all the time. */
async function startDraws(vm: Vm): Promise<void> {
  await vm.exec(["tee", "/root/draws.py"], { stdin: fixture("draws.py"), check: true });
  await vm.run("setsid python3 /root/draws.py /dev/shm/draws > /dev/null 2>&1 &", { orphans: "keep", check: true });
  await eventually(async () => ((await vm.run("test -e /dev/shm/draws.begun")).ok ? true : undefined));
}

/** What it drew in a copy, before and after it was one, and when. */
async function draws(vm: Vm): Promise<Map<string, string>> {
  const read = "until [ -e /dev/shm/draws ]; do sleep 0.1; done; cat /dev/shm/draws";
  const { stdout } = await vm.run(read, { check: true, timeoutMs: 30_000 });
  return new Map(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.split(" ").reverse() as [string, string]),
  );
}

const both = (vms: readonly Vm[]) => Promise.all(vms.map(lookAt)) as Promise<[Machine, Machine]>;

describe("two clones of a template", () => {
  let vms: Vm[];

  beforeAll(async () => {
    await (await SmolVM.create(state.config({ network: "user" }))).delete();
    vms = await Promise.all([1, 2].map(() => SmolVM.create(state.config({ network: "user" }))));
  });

  afterAll(() => Promise.all(vms?.map((vm) => vm.delete()) ?? []));

  it("are two machines", async () => {
    const [one, two] = await both(vms);
    for (const { vm } of [one, two]) expect((await vm.info()).startedFrom.kind).toBe("template");
    expectTwoMachines(one, two, 0);
  });

  it("have nothing of the frozen guest's name, on disk or in files in memory", async () => {
    const [vm] = vms as [Vm];
    const { startedFrom, diskPath } = await vm.info();
    const template = (await listTemplates()).find(({ key }) => key === startedFrom.id)!;
    // Found where it must be, so that the search is known to find.
    expect(readFileSync(join(template.directory, "memory")).includes("smolvm-template")).toBe(true);
    await vm.run("sync");
    for (const path of [join(template.directory, "disk.qcow2"), diskPath]) {
      expect(readFileSync(path).includes("smolvm-template")).toBe(false);
    }
    const places = "/etc /run /var /root /tmp /home /srv /dev/shm /dev/mqueue";
    expect(
      (await vm.run(`echo smolvm-template > /tmp/x; grep -rl smolvm-templat[e] ${places}; rm /tmp/x`)).output,
    ).toBe("/tmp/x");
    expect((await vm.run("grep -l smolvm-templat[e] /proc/sys/kernel/* 2> /dev/null")).output).toBe("");
  });

  it("have the identity that the host has on record, and no secret of it in the template", async () => {
    const [vm] = vms as [Vm];
    const directory = dirname((await vm.info()).diskPath);
    const publicKey = readFileSync(join(directory, "ssh_host_ed25519_key.pub"), "utf8").trim();
    expect((await vm.run("cat /etc/ssh/ssh_host_ed25519_key.pub")).output).toBe(publicKey);
    expect((await vm.run("ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key")).output).toBe(publicKey);
    expect((await vm.run("stat -L -c %a /etc/ssh/ssh_host_ed25519_key; ls /etc/ssh")).output).toMatch(
      /^600\nmoduli\nssh_config\nssh_config.d\nssh_host_ed25519_key\nssh_host_ed25519_key.pub\nsshd_config\n/,
    );
  });
});

/** Parent, its answers before it was copied, and the copies. */
interface Family {
  readonly parent: Vm;
  readonly children: readonly Vm[];
  readonly before: Answer;
}

/**
 * Output of the parent is on its way on two lanes when it is copied: on ours as much as fits, for nobody takes it; on the
 * other program's all the time.
 */
async function raise(copy: (parent: Vm) => Promise<Vm[]>, other: Program): Promise<Family> {
  const parent = await SmolVM.create(state.config({ network: "user" }));
  await startGenerators(parent);
  const before = await ask(parent, "honours");
  await ask(parent, "ignores");
  let isCopied: () => void = () => {};
  const copied = new Promise<void>((resolve) => {
    isCopied = resolve;
  });
  const ours = parent.run("seq 1000000 1400000", { onOutput: () => copied });
  const theirs = other.call("run", parent.vmId, "until [ -e /root/enough ]; do seq 2000000 2020000; sleep 0.1; done", {
    maxOutputBytes: 2 ** 28,
  });
  for (const output of [ours, theirs]) output.catch(() => {}); // Awaited below, unless the copying fails.
  await eventually(async () => ((await parent.run("pgrep seq")).ok ? true : undefined));
  const children = await copy(parent).finally(isCopied);
  await parent.run("touch /root/enough", { check: true });
  const numbers = (first: number, last: number) =>
    Array.from({ length: last - first + 1 }, (_, index) => `${first + index}\n`).join("");
  expect((await ours).stdout === numbers(1_000_000, 1_400_000)).toBe(true);
  expect((await theirs).stdout.replaceAll(numbers(2_000_000, 2_020_000), "")).toBe("");
  return { parent, children, before };
}

const COPIES: Record<string, (parent: Vm) => Promise<Vm[]>> = {
  "two forks of a VM": async (parent) => {
    const forked = await parent.fork({ count: 2 });
    return forked.map((child) => {
      if (!child.ok) throw child.error;
      return child.vm;
    });
  },
  "two VMs from a snapshot": async (parent) => {
    const { id } = await parent.snapshot();
    return Promise.all([SmolVM.fromSnapshot(id), SmolVM.fromSnapshot(id)]);
  },
};

describe.each(Object.keys(COPIES))("%s", (name) => {
  let other: Program;
  let family: Family;

  beforeAll(async () => {
    other = await Program.start();
    family = await raise(COPIES[name]!, other);
  });

  afterAll(async () => {
    await other?.kill(); // It may still wait for output.
    for (const { vmId } of await SmolVM.list()) await (await SmolVM.fromId(vmId)).delete();
    for (const { id } of await SmolVM.snapshots.list()) await SmolVM.snapshots.delete(id);
  });

  it("are two machines, and a third is their origin", async () => {
    const [one, two] = await both(family.children);
    expectTwoMachines(one, two, 1);
    const parent = await lookAt(family.parent);
    for (const child of [one, two]) {
      for (const [what, value] of Object.entries(parent.own)) expect(child.own[what], what).not.toBe(value);
    }
    expect(parent.generation).toBe(1);
  });

  it("answer to a second program exactly, on a lane whose client was lost in the copying", async () => {
    for (const { vmId } of family.children) {
      const answer = await other.call("run", vmId, "printf exact; printf too >&2");
      expect(answer).toMatchObject({ stdout: "exact", stderr: "too", exitCode: 0 });
    }
  });

  it("have programs that go on, draw other numbers if they watch the generation, and the same if not", async () => {
    const [one, two] = family.children as [Vm, Vm];
    const all = [family.parent, one, two];
    const numbers = async (kind: "honours" | "ignores") =>
      new Set((await Promise.all(all.map((vm) => ask(vm, kind)))).map(({ number }) => number));
    expect((await numbers("ignores")).size).toBe(1);
    expect((await numbers("honours")).size).toBe(3);
  });

  it("have a monotonic clock that goes on and was never seen to go back", async () => {
    for (const vm of [family.parent, ...family.children]) {
      const first = await ask(vm, "honours");
      const second = await ask(vm, "honours");
      expect(first.monotonic).toBeGreaterThan(family.before.monotonic);
      expect(second.monotonic).toBeGreaterThan(first.monotonic);
      expect(second.steps).toBeGreaterThan(first.steps);
      expect(second.smallest).toBe(0);
    }
  });

  it("have programs that never draw from the kernel what the other one draws, from the first moment on", async () => {
    await startDraws(family.parent);
    const children = await COPIES[name]!(family.parent);
    const [one, two] = (await Promise.all(children.map(draws))) as [Map<string, string>, Map<string, string>];
    const both = [...one].filter(([number]) => two.has(number));
    expect(both.length).toBeGreaterThan(100);
    expect(both.length).toBeLessThan(one.size);
    // What is in both was drawn before the copy: at the same time.
    expect(both.filter(([number, time]) => two.get(number) !== time)).toHaveLength(0);
  });
});
