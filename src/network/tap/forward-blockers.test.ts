import { expect, test } from "vitest";
import { parseForwardBlockers } from "./forward-blockers.js";

const chain = (family: string, table: string, extra: object) => ({
  chain: { family, table, name: "FORWARD", ...extra },
});

test("chains of others whose policy is to drop what is forwarded are named", () => {
  const listed = [
    { metainfo: { version: "1.0.6" } },
    chain("ip", "filter", { hook: "forward", policy: "drop" }),
    chain("inet", "firewalld", { hook: "forward", policy: "accept" }),
    chain("ip", "filter", { hook: "input", policy: "drop" }),
    chain("ip6", "filter", { hook: "forward", policy: "drop" }),
    chain("inet", "smolvm", { hook: "forward", policy: "drop" }),
    chain("inet", "other", {}),
  ];
  expect(parseForwardBlockers(JSON.stringify({ nftables: listed }))).toEqual(["ip filter FORWARD"]);
});
