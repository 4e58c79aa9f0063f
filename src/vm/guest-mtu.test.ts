import { expect, test } from "vitest";
import { guestMtu } from "./guest-mtu.js";

test("a guest's MTU follows its network", () => {
  expect(guestMtu({ networkMode: "none", rateLimitMbps: null })).toBe(0);
  expect(guestMtu({ networkMode: "tap", rateLimitMbps: null })).toBe(1_500);
  expect(guestMtu({ networkMode: "user", rateLimitMbps: null })).toBe(65_520);
  expect(guestMtu({ networkMode: "user", rateLimitMbps: 16 })).toBe(65_520);
  // A frame of 64 KiB would take half a second.
  expect(guestMtu({ networkMode: "user", rateLimitMbps: 1 })).toBe(1_500);
});
