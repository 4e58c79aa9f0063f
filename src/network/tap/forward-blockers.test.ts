import { describe, expect, test } from "vitest";
import { acceptsAnswers, acceptsGuests, blockersIn, blockingChains, legacyBlockers } from "./forward-blockers.js";

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

const from = (right: string, key = "iifname", op = "==") => ({ match: { op, left: { meta: { key } }, right } });
const to = (right: string, op = "==") => from(right, "oifname", op);
const state = (right: unknown, op = "in") => ({ match: { op, left: { ct: { key: "state" } }, right } });
const counter = { counter: { packets: 0, bytes: 0 } };
const accept = { accept: null };
const conntrack = { xt: { type: "match", name: "conntrack" } };

describe("a rule lets guests through", () => {
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

describe("a rule lets answers through", () => {
  const vmap = (set: unknown, key = "state") => ({ vmap: { key: { ct: { key } }, data: { set } } });

  test.each([
    ["when it is about all that guests get", [to("svm*"), counter, accept], true],
    ["when it asks for their state", [to("svm*"), state(["established", "related"]), accept], true],
    ["when iptables asks for their state", [to("svm*"), conntrack, counter, accept], true],
    ["when it is about those of all", [state({ set: ["established", "related"] }, "=="), accept], true],
    ["when it is about no other state", [state("established"), accept], true],
    [
      "by a map",
      [
        vmap([
          ["invalid", { drop: null }],
          ["established", accept],
        ]),
      ],
      true,
    ],
    [
      "not by a map that drops them",
      [
        vmap([
          ["established", { drop: null }],
          ["new", accept],
        ]),
      ],
      false,
    ],
    ["not by a map of something else", [vmap([["established", accept]], "status")], false],
    ["not by a map whose content is not there", [{ vmap: { key: { ct: { key: "state" } }, data: "@states" } }], false],
    ["not to another device", [to("eth0"), state("established"), accept], false],
    ["not to all other devices", [to("svm*", "!="), accept], false],
    ["not when it is about what guests send", [from("svm*"), accept], false],
    ["not when it is about other states", [to("svm*"), state(["new"]), accept], false],
    ["not when it is about all other states", [state("established", "!="), accept], false],
    ["not when it asks of all what nft does not tell", [conntrack, accept], false],
    ["not when it asks for more", [to("svm*"), state("established"), conntrack, accept], false],
    ["not when it drops", [to("svm*"), { drop: null }], false],
    ["not when it says nothing", [], false],
  ] as const)("%s", (_what, rule, expected) => {
    expect(acceptsAnswers(rule)).toBe(expected);
  });
});

describe("a chain", () => {
  const own = { ...chain("inet", "own", DROPS) };
  const jump = { chain: "FORWARD", expr: [counter, { jump: { target: "DOCKER-USER" } }] };
  const both = (name: string) => [
    { chain: name, expr: [from("svm*"), accept] },
    { chain: name, expr: [to("svm*"), state(["established", "related"]), accept] },
  ];

  test.each([
    ["with rules for both ways", both("FORWARD")],
    ["that asks Docker's for its user, which has them", [jump, ...both("DOCKER-USER")]],
    [
      "that has one of them, and Docker's the other",
      [...both("FORWARD").slice(0, 1), jump, ...both("DOCKER-USER").slice(1)],
    ],
  ])("%s is none that blocks", (_what, rules) => {
    expect(blockersIn(own, rules)).toEqual([]);
  });

  test.each([
    ["without rules", [], "FORWARD"],
    ["that lets only through what guests send", both("FORWARD").slice(0, 1), "FORWARD"],
    ["that lets only answers through", both("FORWARD").slice(1), "FORWARD"],
    ["with the rules in another chain of the table", both("INPUT"), "FORWARD"],
    ["with the rules in Docker's for its user, which it does not ask", both("DOCKER-USER"), "FORWARD"],
    [
      "that asks Docker's for some packets only",
      [{ chain: "FORWARD", expr: [from("eth0"), { jump: { target: "DOCKER-USER" } }] }, ...both("DOCKER-USER")],
      "FORWARD",
    ],
    ["that asks Docker's, with the rules elsewhere", [jump, ...both("INPUT")], "DOCKER-USER"],
  ])("%s blocks, and the remedy goes where it helps", (_what, rules, place) => {
    expect(blockersIn(own, rules)).toEqual([
      {
        name: "inet own FORWARD",
        remedy: [
          `nft insert rule inet own ${place} iifname '"svm*"' accept`,
          `nft insert rule inet own ${place} oifname '"svm*"' ct state established,related accept`,
        ],
      },
    ]);
  });
});

describe("the old iptables", () => {
  const blocker = (place: string) => [
    {
      name: "iptables-legacy filter FORWARD",
      remedy: [
        `iptables-legacy -I ${place} -i svm+ -j ACCEPT`,
        `iptables-legacy -I ${place} -o svm+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`,
      ],
    },
  ];
  const drops = "-P FORWARD DROP";
  const sent = (name: string) => `-A ${name} -i svm+ -j ACCEPT`;
  const answers = (name: string, states = "RELATED,ESTABLISHED") =>
    `-A ${name} -o svm+ -m conntrack --ctstate ${states} -j ACCEPT`;
  const [created, jump] = ["-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"];

  test.each([
    ["accepts by policy", ["-P FORWARD ACCEPT"]],
    ["says nothing", [""]],
    ["has rules for both ways", [drops, sent("FORWARD"), answers("FORWARD")]],
    ["has them in Docker's chain", [drops, created, jump, sent("DOCKER-USER"), answers("DOCKER-USER")]],
    ["lets all answers through", [drops, "-A FORWARD -m state --state ESTABLISHED -j ACCEPT", sent("FORWARD")]],
    ["lets all through that guests get", [drops, sent("FORWARD"), "-A FORWARD -o svm+ -j ACCEPT"]],
  ])("blocks nothing when it %s", (_what, lines) => {
    expect(legacyBlockers(`${lines.join("\n")}\n`)).toEqual([]);
  });

  test.each([
    ["has no rules", ["-P INPUT ACCEPT", drops], "FORWARD"],
    ["has Docker's chain", [drops, created, jump], "DOCKER-USER"],
    ["does not ask Docker's chain", [drops, created, sent("DOCKER-USER"), answers("DOCKER-USER")], "FORWARD"],
    ["lets only through what guests send", [drops, sent("FORWARD")], "FORWARD"],
    ["lets only answers through", [drops, answers("FORWARD")], "FORWARD"],
    ["lets no answers through", [drops, sent("FORWARD"), answers("FORWARD", "NEW,RELATED")], "FORWARD"],
    ["has the rules elsewhere", [drops, sent("INPUT"), answers("INPUT")], "FORWARD"],
  ])("is read, and blocks when it %s", (_what, lines, place) => {
    expect(legacyBlockers(`${lines.join("\n")}\n`)).toEqual(blocker(place));
  });
});
