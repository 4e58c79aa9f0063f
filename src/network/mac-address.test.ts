import fc from "fast-check";
import { expect, test } from "vitest";
import { macAddressOf } from "./mac-address.js";

test("a MAC address is stable, locally administered and unicast", () => {
  expect(macAddressOf("vm-1")).toBe(macAddressOf("vm-1"));
  expect(macAddressOf("vm-1")).not.toBe(macAddressOf("vm-2"));
  fc.assert(
    fc.property(fc.string(), (id) => {
      expect(macAddressOf(id)).toMatch(/^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
    }),
  );
});
