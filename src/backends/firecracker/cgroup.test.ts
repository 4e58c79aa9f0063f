import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { cgroupOptions, removeCgroup } from "./cgroup.js";
import { scratch } from "./testing/machines.js";

const machine = { vcpuCount: 2, memSizeMib: 512 };

function hierarchy(controllers: string): string {
  const root = scratch();
  writeFileSync(join(root, "cgroup.controllers"), `${controllers}\n`);
  return root;
}

test("memory and threads are limited where the root of the hierarchy is seen", () => {
  const options = cgroupOptions(machine, hierarchy("cpuset cpu io memory pids"));
  expect(options).toEqual([
    ...["--cgroup-version", "2", "--parent-cgroup", "smolvm"],
    ...["--cgroup", `memory.max=${768 * 2 ** 20}`, "--cgroup", "pids.max=34"],
  ]);
});

test("nothing is limited elsewhere", () => {
  expect(cgroupOptions(machine, scratch())).toEqual([]);
  expect(cgroupOptions(machine, hierarchy("cpu memory"))).toEqual([]);
  const below = hierarchy("memory pids");
  writeFileSync(join(below, "cgroup.type"), "domain\n");
  expect(cgroupOptions(machine, below)).toEqual([]);
});

test("a cgroup goes with its VMM, the others' parent with the last", async () => {
  const root = scratch();
  mkdirSync(join(root, "smolvm", "a"), { recursive: true });
  mkdirSync(join(root, "smolvm", "b"));
  await removeCgroup("a", root);
  expect(existsSync(join(root, "smolvm", "b"))).toBe(true);
  await removeCgroup("b", root);
  expect(existsSync(join(root, "smolvm"))).toBe(false);
  await removeCgroup("b", root);
});
