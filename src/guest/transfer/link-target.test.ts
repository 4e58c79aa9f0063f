import { expect, test } from "vitest";
import { staysInTree } from "./link-target.js";

test.each([
  ["a", "b"],
  ["a", "b/c"],
  ["a", "."],
  ["a", "./b//c/"],
  ["d/a", ".."],
  ["d/a", "../b"],
  ["d/e/a", "../../b"],
  ["d/e/a", "..//../b"],
  ["a", "..."],
  ["a", "..b"],
])("link %s to %s stays inside", (path, target) => {
  expect([staysInTree(path, target, false), staysInTree(path, target, true)]).toEqual([true, true]);
});

test.each([
  ["a", ".."],
  ["a", "../b"],
  ["d/a", "../.."],
  ["d/e/a", "../../../b"],
  ["d/a", "b/.."],
  ["d/a", "../b/../c"],
  ["a", "/etc/passwd"],
  ["a", "/"],
  ["a", ""],
  ["a", "b\0c"],
  ["a", "x".repeat(4096)],
  ["", "b"],
])("link %s to %s does not", (path, target) => {
  expect([staysInTree(path, target, false), staysInTree(path, target, true)]).toEqual([false, false]);
});

test("only a receiver takes a dot before dots", () => {
  expect([staysInTree("d/a", "./../b", false), staysInTree("d/a", "./../b", true)]).toEqual([true, false]);
});
