import { describe, expect, it } from "vitest";
import { formatIpv4 } from "../ipv4.js";
import { directDestinations, reachableRanges } from "./destinations.js";
import type { Ipv4Ranges } from "./ipv4-ranges.js";

const text = (ranges: Ipv4Ranges) =>
  ranges.map(({ first, last }) => (first === last ? formatIpv4(first) : `${formatIpv4(first)}-${formatIpv4(last)}`));
const anyPort = (...cidrs: string[]) => text(directDestinations(cidrs.map((cidr) => ({ cidr }))).anyPort);
const has = (ranges: Ipv4Ranges, address: string) => {
  const value = address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
  return ranges.some(({ first, last }) => first <= value && value <= last);
};

describe("the networks of a policy", () => {
  it("are merged, and what no guest reaches is cut out", () => {
    expect(anyPort("203.0.113.0/25", "203.0.113.128/25", "198.51.100.7/32")).toEqual([
      "198.51.100.7",
      "203.0.113.0-203.0.113.255",
    ]);
    expect(anyPort("172.16.0.0/12")).toEqual(["172.17.0.0-172.31.255.255"]);
    expect(anyPort("127.0.0.0/8", "169.254.169.254/32", "224.0.0.0/3", "172.16.4.0/24")).toEqual([]);
  });

  it("open private addresses only if they are private themselves", () => {
    const all = directDestinations([{ cidr: "0.0.0.0/0" }]).anyPort;
    for (const address of ["10.0.0.1", "172.20.0.1", "192.168.1.1", "100.64.0.1", "168.63.129.16", "198.19.0.1"]) {
      expect([address, has(all, address)]).toEqual([address, false]);
    }
    for (const address of ["9.255.255.255", "11.0.0.0", "168.63.129.15", "223.255.255.255"]) {
      expect([address, has(all, address)]).toEqual([address, true]);
    }
    expect(anyPort("8.0.0.0/6")).toEqual(["8.0.0.0-9.255.255.255", "11.0.0.0-11.255.255.255"]);
    expect(anyPort("10.1.0.0/16", "168.63.129.16/32")).toEqual(["10.1.0.0-10.1.255.255", "168.63.129.16"]);
    expect(anyPort("0.0.0.0/0", "10.0.0.0/8")[0]).toBe("1.0.0.0-100.63.255.255");
  });

  it("share a rule where several ports have the same ones", () => {
    const { anyPort: every, byPort } = directDestinations([
      { cidr: "198.51.100.7/32", port: 25 },
      { cidr: "203.0.113.0/24", port: 80 },
      { cidr: "198.51.100.7/32", port: 587 },
      { cidr: "127.0.0.1/32", port: 22 },
    ]);
    expect(every).toEqual([]);
    expect(byPort.map(({ ports, ranges }) => [ports, text(ranges)])).toEqual([
      [[25, 587], ["198.51.100.7"]],
      [[80], ["203.0.113.0-203.0.113.255"]],
    ]);
  });

  it("that cannot be read open nothing", () => expect(anyPort("nonsense", "10.0.0.0", "::/0")).toEqual([]));
});

describe("what a policy reaches", () => {
  const names = [{ name: "a.example", port: 443 }];
  it.each([
    [{ mode: "off", names: [], networks: [] }, "8.8.8.8", false],
    [{ mode: "open", names: [], networks: [] }, "8.8.8.8", true],
    [{ mode: "open", names: [], networks: [] }, "10.0.0.1", false],
    [{ mode: "open", names: [], networks: [] }, "169.254.169.254", false],
    // Names go through the proxy, which is the host itself.
    [{ mode: "allow", names, networks: [] }, "8.8.8.8", false],
    [{ mode: "allow", names, networks: [{ cidr: "8.8.8.0/24", port: 53 }] }, "8.8.8.8", true],
    [{ mode: "allow", names, networks: [{ cidr: "10.0.0.0/8" }] }, "10.0.0.1", true],
  ] as const)("%j %s: %s", (rules, address, isReached) => {
    expect(has(reachableRanges(rules), address)).toBe(isReached);
  });
});
