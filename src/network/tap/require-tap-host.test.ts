import { expect, test } from "vitest";
import { effectiveCapabilities } from "./require-tap-host.js";

test("rights are read from a process's status", () => {
  expect(effectiveCapabilities("Name:\tnode\nCapEff:\t0000000000001000\nCapBnd:\t000001ffffffffff\n")).toBe(1n << 12n);
  expect(effectiveCapabilities("Name:\tnode\n")).toBe(0n);
});
