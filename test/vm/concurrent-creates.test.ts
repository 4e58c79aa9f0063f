// Many VMs made at once by many programs: all distinct, no raw error of the database.

import { expect, it } from "vitest";
import { Program } from "../support/program.js";
import { VmManager } from "../support/smolvm.js";
import { expectNothingLeft, testState, vmmPids } from "../support/state.js";

const state = testState();
const PROGRAMS = 8;
const EACH = 20;

it("makes 160 VMs from 8 programs, each with an id and a host port of its own, and deletes them", async () => {
  const programs = await Program.startMany(PROGRAMS);
  const configs = Array.from({ length: EACH }, () => state.config({ network: "user", ports: [{ guest: 80 }] }));
  const made = await Promise.all(programs.map((program) => program.call("createMany", configs)));
  expect(made.flat().filter(({ error }) => error !== undefined)).toEqual([]);
  const ids = made.flat().map(({ value }) => value);
  expect(new Set(ids).size).toBe(PROGRAMS * EACH);
  const listed = await programs[0]!.call("list");
  expect(listed.map(({ vmId }) => vmId).sort()).toEqual([...ids].sort());
  expect(new Set(listed.map(({ ports }) => ports[0]!.host)).size).toBe(PROGRAMS * EACH);
  // Each program deletes what another one made.
  const deleted = await Promise.all(
    programs.map((program, index) =>
      program.call(
        "deleteMany",
        made[(index + 1) % PROGRAMS]!.map(({ value }) => value!),
      ),
    ),
  );
  expect(deleted.flat().filter(({ error }) => error !== undefined)).toEqual([]);
  await Promise.all(programs.map((program) => program.end()));
  await expectNothingLeft(state.stateDir);
});

it("boots 6 VMs at once, and each is its own machine", async () => {
  await using manager = new VmManager();
  const ids = await Promise.all(Array.from({ length: 6 }, () => manager.create(state.config({ vcpuCount: 1 }))));
  await Promise.all(ids.map((id) => manager.start(id)));
  expect(vmmPids(state.runtimeDir)).toHaveLength(6);
  const seen = await Promise.all(
    ids.map((id) => manager.run(id, "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id")),
  );
  expect(seen.map(({ stdout }) => stdout.split("\n")[0])).toEqual(ids);
  const values = seen.flatMap(({ stdout }) => stdout.trim().split("\n"));
  expect(values).toHaveLength(18);
  expect(new Set(values).size).toBe(18);
  await Promise.all(ids.map((id) => manager.delete(id)));
  await expectNothingLeft(state.stateDir);
});
