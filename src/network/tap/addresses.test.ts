import { expect, test } from "vitest";
import { addressesOf, indexOf, TAP_LEASES } from "./addresses.js";

test("index and addresses are a bijection, and every network has four addresses of its own", () => {
  const seen = new Set<string>();
  for (let index = 0; index < TAP_LEASES; index++) {
    const { gateway, guest } = addressesOf(index);
    expect([indexOf(gateway), indexOf(guest)]).toEqual([index, index]);
    seen.add(gateway).add(guest);
  }
  expect(seen.size).toBe(2 * TAP_LEASES);
});

test.each([
  [0, "svm0", "172.16.0.1", "172.16.0.2", 16_384],
  [300, "svm300", "172.16.4.177", "172.16.4.178", 16_684],
  [16_000, "svm16000", "172.16.250.1", "172.16.250.2", 32_384],
  [16_383, "svm16383", "172.16.255.253", "172.16.255.254", 32_767],
])("guest %i", (index, device, gateway, guest, logGroup) => {
  expect(addressesOf(index)).toEqual({ index, device, gateway, guest, prefix: 30, logGroup });
});

test.each(["172.15.255.255", "172.17.0.0", "10.0.0.1", "fe80::1", "172.16.0", "172.16.0.1/30", ""])(
  "%j is not in the pool",
  (address) => expect(indexOf(address)).toBeUndefined(),
);

test("network and broadcast address belong to the lease too", () => {
  expect(["172.16.0.0", "172.16.0.3", "172.16.0.4", "172.16.255.255"].map(indexOf)).toEqual([0, 0, 1, 16_383]);
});
