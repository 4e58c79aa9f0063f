import { describe, expect, test } from "vitest";
import { acceptsGuests, blockerOf, blockingChains, legacyBlockers } from "./forward-blockers.js";

const chain = (family: string, table: string, extra: object = {}) => ({ family, table, name: "FORWARD", ...extra });
const DROPS = { hook: "forward", policy: "drop" };

test("chains of others whose policy is to drop what is forwarded are found", () => {
  const blocking = [chain("ip", "filter", DROPS), chain("inet", "own", DROPS)];
  const others = [
    chain("inet", "firewalld", { hook: "forward", policy: "accept" }),
    chain("ip", "filter", { hook: "input", policy: "drop" }),
    chain("ip6", "filter", DROPS),
    chain("inet", "smolvm", DROPS),
    chain("inet", "other"),
  ];
  expect(blockingChains([...others, ...blocking])).toEqual(blocking);
});

describe("a rule lets guests through", () => {
  const from = (right: string, key = "iifname", op = "==") => ({ match: { op, left: { meta: { key } }, right } });
  const counter = { counter: { packets: 0, bytes: 0 } };
  const accept = { accept: null };
  const conntrack = { xt: { type: "match", name: "conntrack" } };

  test.each([
    ["with nothing else in it", [from("svm*"), accept], true],
    ["when it counts, too", [from("svm*"), counter, accept], true],
    ["not by another device", [from("eth0"), accept], false],
    ["not by one device of ours", [from("svm1"), accept], false],
    ["not when it is about what they get", [from("svm*", "oifname"), accept], false],
    ["not when it is about all others", [from("svm*", "iifname", "!="), accept], false],
    ["not when it asks for more", [from("svm*"), conntrack, accept], false],
    ["not when it drops", [from("svm*"), { drop: null }], false],
    ["not when it only counts", [counter], false],
  ] as const)("%s", (_what, rule, expected) => {
    expect(acceptsGuests(rule)).toBe(expected);
  });
});

test("the remedy goes where the chain's owner wants it", () => {
  const own = chain("inet", "own", DROPS);
  expect(blockerOf(own, [own])).toEqual({
    name: "inet own FORWARD",
    remedy: [
      "nft insert rule inet own FORWARD iifname '\"svm*\"' accept",
      "nft insert rule inet own FORWARD oifname '\"svm*\"' ct state established,related accept",
    ],
  });
  const users = { ...own, name: "DOCKER-USER" };
  expect(blockerOf(own, [own, users]).remedy[0]).toContain("rule inet own DOCKER-USER");
});

test("the old iptables is read, too", () => {
  const found = [
    {
      name: "iptables-legacy filter FORWARD",
      remedy: [
        "iptables-legacy -I FORWARD -i svm+ -j ACCEPT",
        "iptables-legacy -I FORWARD -o svm+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
      ],
    },
  ];
  expect(legacyBlockers("-P INPUT ACCEPT\n-P FORWARD DROP\n")).toEqual(found);
  expect(legacyBlockers("-P FORWARD DROP\n-N DOCKER-USER\n")[0]?.remedy[0]).toContain("-I DOCKER-USER -i svm+");
  expect(legacyBlockers("-P FORWARD DROP\n-N DOCKER-USER\n-A DOCKER-USER -i svm+ -j ACCEPT\n")).toEqual([]);
  expect(legacyBlockers("-P FORWARD ACCEPT\n")).toEqual([]);
  expect(legacyBlockers("")).toEqual([]);
});
