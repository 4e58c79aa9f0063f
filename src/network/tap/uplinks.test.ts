import { expect, test } from "vitest";
import { reachableRanges } from "./destinations.js";
import { parseRoutes, uplinksTo } from "./uplinks.js";

const HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
const TABLE = [
  HEADER,
  "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
  "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
  // Two halves of everything, as VPNs have them, and a network behind one.
  "tun0\t00000000\t0108080A\t0003\t0\t0\t0\t00000080\t0\t0\t0",
  "tun0\t00000080\t0108080A\t0003\t0\t0\t0\t00000080\t0\t0\t0",
  "wg.1\t0000090A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0",
  "down0\t00000000\t00000000\t0002\t0\t0\t0\t00000000\t0\t0\t0",
  "svm3\t0C0010AC\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0",
  "lo\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0",
  "",
].join("\n");

test("routes are read as the kernel writes them", () => {
  const routes = parseRoutes(TABLE);
  expect(routes).toHaveLength(7);
  expect(routes[1]).toEqual({ device: "eth0", destination: { first: 0xc0a8_0000, last: 0xc0a8_00ff } });
  expect(routes[3]?.destination).toEqual({ first: 0x8000_0000, last: 0xffff_ffff });
  expect(parseRoutes(HEADER)).toEqual([]);
  expect(parseRoutes("")).toEqual([]);
});

test("uplinks are the devices that lead to what may be reached", () => {
  const routes = parseRoutes(TABLE);
  const to = (networks: readonly { cidr: string }[]) =>
    uplinksTo(reachableRanges({ mode: "allow", names: [], networks }), routes);
  expect(uplinksTo(reachableRanges({ mode: "open", names: [], networks: [] }), routes)).toEqual(["eth0", "tun0"]);
  expect(to([{ cidr: "10.9.1.0/24" }])).toEqual(["eth0", "tun0", "wg.1"]);
  expect(to([])).toEqual([]);
});
