import { expect, test } from "vitest";
import { hasCapability, hasInheritedCapabilities } from "./capabilities.js";

test("a capability is a bit of the effective set", () => {
  const status = (mask: string) => `Name:\tnode\nCapPrm:\tffffffffffffffff\nCapEff:\t${mask}\nCapBnd:\t0\n`;
  expect(hasCapability("CAP_NET_ADMIN", status("0000000000001000"))).toBe(true);
  expect(hasCapability("CAP_NET_ADMIN", status("0000000000000400"))).toBe(false);
  expect(hasCapability("CAP_NET_BIND_SERVICE", status("0000000000000400"))).toBe(true);
  expect(hasCapability("CAP_NET_ADMIN", status("000001ffffffffff"))).toBe(true);
  expect(hasCapability("CAP_NET_ADMIN", "")).toBe(false);
});

test("ambient and inheritable capabilities go on to children", () => {
  const status = (ambient: string, inheritable: string) => `CapInh:\t${inheritable}\nCapAmb:\t${ambient}\n`;
  expect(hasInheritedCapabilities(status("0000000000001400", "0000000000000000"))).toBe(true);
  expect(hasInheritedCapabilities(status("0000000000000000", "0000000000001000"))).toBe(true);
  expect(hasInheritedCapabilities(status("0000000000000000", "0000000000000000"))).toBe(false);
  expect(hasInheritedCapabilities("")).toBe(false);
});
