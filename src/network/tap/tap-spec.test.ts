import { expect, test } from "vitest";
import { decodeSpec, encodeSpec } from "./tap-spec.js";

const vm = {
  macAddress: "02:00:00:00:00:01",
  policy: {
    mode: "allow" as const,
    names: [{ name: "*.example.org", port: 443 }],
    networks: [{ cidr: "203.0.113.0/24" }, { cidr: "198.51.100.7/32", port: 25 }],
  },
};

test("a VM comes back as it was recorded", () => {
  expect(decodeSpec({ index: 7, spec: encodeSpec(vm) })).toEqual({ ...vm, index: 7 });
  expect(decodeSpec({ index: 7, spec: encodeSpec({ ...vm, rateLimitMbps: 2.5 }) })).toMatchObject({
    rateLimitMbps: 2.5,
  });
});

test("only what rules are made from is recorded", () => {
  const policy = { ...vm.policy, resolvers: ["10.0.0.1:53"] };
  expect(encodeSpec({ ...vm, policy })).toBe(encodeSpec(vm));
});

test("what was not checked is not recorded", () => {
  for (const wrong of [
    { ...vm, macAddress: "02:00:00:00:00:0G" },
    { ...vm, policy: { ...vm.policy, names: [{ name: "a", port: 65_536 }] } },
    { ...vm, policy: { ...vm.policy, networks: [{ cidr: "::/0" }] } },
    { ...vm, rateLimitMbps: 0 },
  ]) {
    expect(() => encodeSpec(wrong)).toThrow(expect.objectContaining({ code: "INTERNAL" }));
  }
});

test("what another version may have written is no VM", () => {
  for (const spec of ["", "{}", "null", '{"macAddress":"02:00:00:00:00:01","policy":{"mode":"new"}}']) {
    expect(decodeSpec({ index: 0, spec })).toBeUndefined();
  }
});
