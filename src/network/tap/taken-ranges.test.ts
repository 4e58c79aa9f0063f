import { expect, test } from "vitest";
import { parseCidr } from "../ipv4.js";
import { rangeOf } from "./addresses.js";
import { doRangesOverlap } from "./ipv4-ranges.js";
import { takenRanges } from "./taken-ranges.js";

const route = (cidr: string, device = "eth0") => ({ device, destination: parseCidr(cidr) ?? { first: 0, last: -1 } });
/** Which of the first four leases are taken. */
const taken = (...of: Parameters<typeof takenRanges>) => {
  const ranges = takenRanges(...of);
  return [0, 1, 2, 3].filter((index) => doRangesOverlap([rangeOf(index)], ranges));
};

test("networks of the host, and routes into the pool, take what they overlap", () => {
  expect(taken([], [])).toEqual([]);
  expect(taken(["172.16.0.7/32", "10.0.0.0/8", "fd00::/8"], [])).toEqual([1]);
  expect(taken(["172.16.0.9/29"], [])).toEqual([2, 3]);
  expect(taken([], [route("172.16.0.0/30"), route("172.16.0.12/31")])).toEqual([0, 3]);
});

test("routes of guests, and those for all of the pool, take nothing", () => {
  const all = ["0.0.0.0/0", "172.16.0.0/12", "172.16.0.0/16"].map((cidr) => route(cidr));
  expect(taken([], [...all, route("172.16.0.4/30", "svm1")])).toEqual([]);
});

test("a host that is in all of the pool is told so", () => {
  const failed = expect.objectContaining({ code: "NETWORK_FAILED", message: expect.stringContaining("172.16.0.0/16") });
  expect(() => takenRanges(["172.16.5.1/12"], [])).toThrow(failed);
  expect(() => takenRanges(["172.16.0.1/17"], [route("172.16.128.0/17")])).toThrow(failed);
});
