import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { chooseGuestSubnet, GUEST_ADDRESSES } from "./guest-subnet.js";
import { parseCidr } from "./ipv4.js";

describe("chooseGuestSubnet", () => {
  it("takes the first candidate where the host has none of it", () => {
    const first = { address: "10.187.0.16/18", gateway: "10.187.0.2", dns: "10.187.0.3" };
    expect(chooseGuestSubnet(0, [])).toEqual(first);
    expect(chooseGuestSubnet(0, ["192.0.2.2/24", "fd00::2/64", "10.187.64.1/18", "nonsense"])).toEqual(first);
  });

  it.each([
    ["10.187.63.255/32", "10.213.64.2"],
    ["10.187.0.1/24", "10.213.64.2"],
    ["10.1.2.3/8", "172.29.192.2"],
    ["10.186.0.0/15", "10.213.64.2"],
  ])("avoids %s", (network, gateway) => {
    expect(chooseGuestSubnet(7, [network]).gateway).toBe(gateway);
  });

  it.each([
    [["10.0.0.0/8"], "172.29."],
    [["10.0.0.0/8", "172.16.0.0/12"], "192.168."],
    [["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], "100.99."],
    [["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"], "198.18."],
  ])("goes on beyond %s", (networks, start) => {
    expect(chooseGuestSubnet(0, networks).gateway.startsWith(start)).toBe(true);
  });

  it("fails when the host has everything", () => {
    expect(() => chooseGuestSubnet(0, ["0.0.0.0/0"])).toThrow(
      expect.toSatisfy((error) => isSmolVMError(error, "NETWORK_FAILED")),
    );
  });
});

describe("a guest's number", () => {
  it("gives each guest an address that nobody else has", () => {
    const { gateway, dns } = chooseGuestSubnet(0, []);
    const addresses = new Set([gateway, dns, "10.187.0.0", "10.187.63.255"]);
    for (let number = 0; number < GUEST_ADDRESSES; number++) {
      const [address = "", prefix] = chooseGuestSubnet(number, []).address.split("/");
      expect(prefix).toBe("18");
      addresses.add(address);
    }
    expect(addresses.size).toBe(GUEST_ADDRESSES + 4);
    expect(GUEST_ADDRESSES).toBe(16_367);
  });

  it("leads to one network, the one of the gateway, whatever it is", () => {
    fc.assert(
      fc.property(fc.nat(Number.MAX_SAFE_INTEGER), (number) => {
        const { address, gateway } = chooseGuestSubnet(number, []);
        expect(parseCidr(address)).toEqual(parseCidr(`${gateway}/18`));
      }),
    );
  });

  it("begins anew after the last address", () => {
    expect(chooseGuestSubnet(GUEST_ADDRESSES - 1, []).address).toBe("10.187.63.254/18");
    expect(chooseGuestSubnet(GUEST_ADDRESSES, []).address).toBe("10.187.0.16/18");
  });
});
