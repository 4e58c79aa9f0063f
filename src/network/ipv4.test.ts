import { expect, test } from "vitest";
import { formatIpv4, parseCidr } from "./ipv4.js";

test.each([
  ["10.0.2.15/24", { first: 0x0a000200, last: 0x0a0002ff }],
  ["255.255.255.255/32", { first: 0xffffffff, last: 0xffffffff }],
  ["1.2.3.4/0", { first: 0, last: 0xffffffff }],
  ["10.0.2.15", undefined],
  ["10.0.2.15/33", undefined],
  ["10.0.2/24", undefined],
  ["fd00::1/64", undefined],
  ["", undefined],
])("parseCidr(%s)", (text, range) => {
  expect(parseCidr(text)).toEqual(range);
});

test.each(["0.0.0.0", "10.0.2.15", "192.168.255.1", "255.255.255.255"])(
  "formatIpv4 writes %s as it was read",
  (text) => {
    expect(formatIpv4(parseCidr(`${text}/32`)?.first ?? -1)).toBe(text);
  },
);
