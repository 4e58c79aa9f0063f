import { expect, test } from "vitest";
import { parseOwnCgroup } from "./cgroups.js";
import { parseAvailableMib } from "./memory.js";
import { hasSubordinateIds } from "./namespaces.js";

test("available memory is read in MiB", () => {
  expect(parseAvailableMib("MemTotal:       24683520 kB\nMemAvailable:    2097152 kB\n")).toBe(2048);
  expect(parseAvailableMib("")).toBeUndefined();
});

test("only the unified hierarchy's line names the own cgroup", () => {
  expect(parseOwnCgroup("0::/user.slice/session-1.scope\n")).toBe("/user.slice/session-1.scope");
  expect(parseOwnCgroup("9:name=systemd:/\n8:pids:/\n")).toBeUndefined();
});

test("subordinate ids belong to the exact user", () => {
  const subuid = "anna:100000:65536\nbert:165536:65536\n";
  expect(hasSubordinateIds(subuid, "bert")).toBe(true);
  expect(hasSubordinateIds(subuid, "ann")).toBe(false);
});
