// Many clones of one template: one after the other, at once, and with half of them killed. Each answers for itself only.

import { readFileSync } from "node:fs";
import { beforeAll, expect, it } from "vitest";
import { SmolVM, type Vm } from "../support/smolvm.js";
import { expectNothingLeft, testState, vmmPids } from "../support/state.js";
import { eventually } from "../support/wait.js";

const state = testState();
const IN_A_ROW = 200;
const AT_ONCE = 20;
const HELD = 50;
const KILLED = 25;
/** Clones that are started at a time where many are held. */
const STARTED_AT_A_TIME = 5;
const config = state.config({ vcpuCount: 1 });
const IDENTITY = "cat /proc/sys/kernel/hostname /etc/machine-id /proc/sys/kernel/random/boot_id";

beforeAll(async () => {
  await (await SmolVM.create(config)).delete(); // The template.
});

/** Its own name, and values that no clone has had before. */
async function expectOwnIdentity(vm: Vm, seen: Set<string>): Promise<void> {
  const { stdout, stderr, exitCode } = await vm.exec(["sh", "-c", `${IDENTITY}; head -c 16 /dev/urandom | base64`]);
  const [hostname, ...values] = stdout.trim().split("\n");
  expect({ hostname, stderr, exitCode, count: values.length }).toEqual({
    hostname: vm.vmId,
    stderr: "",
    exitCode: 0,
    count: 3,
  });
  for (const value of values) {
    expect(seen).not.toContain(value);
    seen.add(value);
  }
}

it(`starts ${IN_A_ROW} in a row from one template, each itself`, async () => {
  const seen = new Set<string>();
  for (let count = 0; count < IN_A_ROW; count++) {
    await using vm = await SmolVM.create(config);
    await expectOwnIdentity(vm, seen);
    const { startedFrom, warnings } = await vm.info();
    expect([startedFrom.kind, warnings]).toEqual(["template", []]);
  }
  expect(seen.size).toBe(3 * IN_A_ROW);
  await expectNothingLeft(state.stateDir);
});

it(`starts ${AT_ONCE} at once, each itself`, async () => {
  const vms = await Promise.all(Array.from({ length: AT_ONCE }, () => SmolVM.create(config)));
  const seen = new Set<string>();
  await Promise.all(vms.map((vm) => expectOwnIdentity(vm, seen)));
  expect(seen.size).toBe(3 * AT_ONCE);
  expect(vmmPids(state.runtimeDir)).toHaveLength(AT_ONCE);
  await Promise.all(vms.map((vm) => vm.delete()));
  await expectNothingLeft(state.stateDir);
});

it(`has ${HELD}, and when ${KILLED} of them are killed the others go on; none has another's data`, async () => {
  const vms: Vm[] = [];
  const secretOf = (vm: Vm, place: string) => `secret-${place}-${vm.vmId}-end`;
  while (vms.length < HELD) {
    const batch = await Promise.all(Array.from({ length: STARTED_AT_A_TIME }, () => SmolVM.create(config)));
    await Promise.all(
      batch.map((vm) =>
        vm.run(`echo ${secretOf(vm, "disk")} > /root/secret; echo ${secretOf(vm, "memory")} > /dev/shm/secret; sync`, {
          check: true,
        }),
      ),
    );
    vms.push(...batch);
  }
  const killed = [...vms].sort(() => Math.random() - 0.5).slice(0, KILLED);
  const rest = vms.filter((vm) => !killed.includes(vm));
  // Some are in the middle of a command.
  const running = [...killed.slice(0, 5), ...rest.slice(0, 5)].map((vm) => vm.run("sleep 1; echo done"));
  const outcomes = Promise.allSettled(running);
  for (const vm of killed) process.kill((await vm.info()).pid!, "SIGKILL");
  expect((await outcomes).map((one) => (one.status === "fulfilled" ? one.value.output : one.reason.code))).toEqual([
    ...Array.from({ length: 5 }, () => "CHANNEL_CLOSED"),
    ...Array.from({ length: 5 }, () => "done"),
  ]);
  // The first of those in /root, /dev/shm and the like that are not the search's own; then all of the private layer.
  const search =
    "grep -rhoa 'secret-[a-z]*-[a-z0-9-]*-end' /root /dev /run /tmp /var /etc /home /srv 2> /dev/null | sort -u";
  for (const vm of rest) {
    expect((await vm.run(search)).stdout).toBe(`${secretOf(vm, "disk")}\n${secretOf(vm, "memory")}\n`);
    const layer = readFileSync((await vm.info()).diskPath, "latin1");
    expect(new Set(layer.match(/secret-[a-z]+-vm-[0-9a-f]{8}-end/g))).toEqual(new Set([secretOf(vm, "disk")]));
  }
  for (const vm of killed) {
    await eventually(async () => ((await vm.info()).status === "error" ? true : undefined));
    expect((await vm.info()).failure).toMatchObject({ code: "VMM_ENDED" });
  }
  expect(vmmPids(state.runtimeDir)).toHaveLength(HELD - KILLED);
  for (const vm of vms) await vm.delete();
  await expectNothingLeft(state.stateDir);
});
