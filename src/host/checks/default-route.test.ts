import { expect, test } from "vitest";
import { parseDefaultRoute } from "./default-route.js";

const HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";

test("the default route is the one whose destination and mask are zero", () => {
  const rows = [
    HEADER,
    "eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
  ];
  expect(parseDefaultRoute(rows.join("\n"))).toBe("eth0");
  expect(parseDefaultRoute(rows.slice(0, 2).join("\n"))).toBeUndefined();
  expect(parseDefaultRoute("")).toBeUndefined();
});
