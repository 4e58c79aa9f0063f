// Firewalls of the host beside ours: what they keep from TAP guests is found, and what is said about it helps.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { FIRST_PORT, gateInternet, Internet, PUBLIC } from "../support/internet.js";
import { type NamespaceGuest, TapBed } from "./tap-bed.js";

const reason = gateInternet();
const PORT = FIRST_PORT + 3;
const [SITE] = PUBLIC;

interface Blocker {
  readonly name: string;
  readonly remedy: readonly string[];
}

describe.skipIf(reason !== undefined)("a firewall of the host", () => {
  let internet: Internet;
  let tap: TapBed;

  beforeAll(async () => {
    internet = await Internet.create();
    tap = new TapBed(internet);
  });

  afterEach(() => tap.reset());

  afterAll(async () => {
    await tap?.[Symbol.asyncDispose]();
    await internet?.[Symbol.asyncDispose]();
  });

  const blockers = () => tap.call<readonly Blocker[]>("forwardBlockers");
  const reach = async (guest: NamespaceGuest) => {
    const probe = { kind: "tcp", address: SITE, port: PORT, text: "x", timeoutMs: 1_500 } as const;
    return (await guest.try(probe)).outcome;
  };

  it("that is none is not found", async () => {
    const guest = await tap.guest("a");
    expect([await blockers(), await reach(guest)]).toEqual([[], "ok"]);
  });

  it.each([
    [
      "drops what is forwarded",
      "table inet theirs { chain forward { type filter hook forward priority 0; policy drop; }; }",
    ],
    [
      "lets only through what guests send to the host",
      `table inet theirs {
        chain input { type filter hook input priority 0; policy drop; iifname "svm*" accept; ct state established accept; };
        chain forward { type filter hook forward priority 0; policy drop; };
      }`,
    ],
    [
      "keeps the answers from guests",
      'table inet theirs { chain forward { type filter hook forward priority 0; policy drop; iifname "svm*" accept; }; }',
    ],
    [
      "is Docker's",
      "table ip filter { chain DOCKER-USER { return; }; chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }",
    ],
  ])("that %s is found, and the commands that are named let guests through", async (_what, rules) => {
    const guest = await tap.guest("a");
    tap.nft(rules);
    expect(await reach(guest)).toBe("timeout");
    const found = await blockers();
    expect(found).toHaveLength(1);
    for (const command of found[0]?.remedy ?? []) internet.run("sh", "-ec", command);
    expect([await blockers(), await reach(guest)]).toEqual([[], "ok"]);
  });

  it("that lets guests through among all that it forwards is not found", async () => {
    const guest = await tap.guest("a");
    for (const answers of [
      "ct state established,related accept",
      "ct state vmap { established : accept, invalid : drop }",
    ]) {
      tap.nft(
        `table inet theirs { chain forward { type filter hook forward priority 0; policy drop; ${answers}; iifname "svm*" accept; }; }`,
      );
      expect([await blockers(), await reach(guest)]).toEqual([[], "ok"]);
      tap.nft("delete table inet theirs");
    }
  });
});
