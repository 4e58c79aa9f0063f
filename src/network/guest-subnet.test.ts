import { describe, expect, it } from "vitest";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { chooseGuestSubnet } from "./guest-subnet.js";

describe("chooseGuestSubnet", () => {
  it("takes the first candidate where the host has none of it", () => {
    const first = { address: "10.0.2.15/24", gateway: "10.0.2.2", dns: "10.0.2.3" };
    expect(chooseGuestSubnet([])).toEqual(first);
    expect(chooseGuestSubnet(["192.0.2.2/24", "fd00::2/64", "10.0.3.1/24", "nonsense"])).toEqual(first);
  });

  it.each([
    ["10.0.2.77/32", "10.187.43.2"],
    ["10.0.2.1/24", "10.187.43.2"],
    ["10.1.2.3/8", "172.29.217.2"],
    ["10.0.0.0/15", "10.187.43.2"],
  ])("avoids %s", (network, gateway) => {
    expect(chooseGuestSubnet([network]).gateway).toBe(gateway);
  });

  it("fails when the host has everything", () => {
    expect(() => chooseGuestSubnet(["0.0.0.0/0"])).toThrow(
      expect.toSatisfy((error) => isSmolVMError(error, "NETWORK_FAILED")),
    );
  });
});
