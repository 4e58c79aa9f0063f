import { expect, test } from "vitest";
import { hasCapability } from "./capabilities.js";

test("a capability is a bit of the effective set", () => {
  const status = (mask: string) => `Name:\tnode\nCapPrm:\tffffffffffffffff\nCapEff:\t${mask}\nCapBnd:\t0\n`;
  expect(hasCapability("CAP_NET_ADMIN", status("0000000000001000"))).toBe(true);
  expect(hasCapability("CAP_NET_ADMIN", status("0000000000000400"))).toBe(false);
  expect(hasCapability("CAP_NET_BIND_SERVICE", status("0000000000000400"))).toBe(true);
  expect(hasCapability("CAP_NET_ADMIN", status("000001ffffffffff"))).toBe(true);
  expect(hasCapability("CAP_NET_ADMIN", "")).toBe(false);
});
