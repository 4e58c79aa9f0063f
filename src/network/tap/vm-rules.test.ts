import { describe, expect, it } from "vitest";
import { baseRules, REFUSE, removalOfTables } from "./base-rules.js";
import type { NftCommand, NftStatement } from "./nft-command.js";
import { additionOfVm, removalOfVm, replacementOfVm, type TapVm } from "./vm-rules.js";

const OPEN = { mode: "open", names: [], networks: [] } as const;
const OFF = { mode: "off", names: [], networks: [] } as const;
const ALLOW = {
  mode: "allow",
  names: [
    { name: "a.example", port: 443 },
    { name: "b.example", port: 443 },
    { name: "a.example", port: 80 },
  ],
  networks: [{ cidr: "203.0.113.0/24" }, { cidr: "198.51.100.7/32", port: 25 }],
} as const;

const vm = (policy: TapVm["policy"], extra: Partial<TapVm> = {}): TapVm => ({
  index: 3,
  macAddress: "02:00:00:00:00:03",
  policy,
  ...extra,
});

/** The rules of a chain, each as its statements. */
function rules(commands: readonly NftCommand[], chain: string): (readonly NftStatement[])[] {
  return commands.flatMap((command) =>
    "add" in command && "rule" in command.add && command.add.rule.chain === chain ? [command.add.rule.expr] : [],
  );
}

/** What the rules of a chain report, in order. */
function reports(commands: readonly NftCommand[], chain: string) {
  return rules(commands, chain).flatMap((rule) => rule.flatMap((step) => ("log" in step ? [step.log] : [])));
}

describe("the rules of a VM", () => {
  it("report each refusal to its own group, under the name that tapguard's policy gives it", () => {
    const group = 16_387;
    const prefixes = (policy: TapVm["policy"]) =>
      reports(additionOfVm(vm(policy)), "forward3").map((log) => log.prefix);
    expect(prefixes(OPEN)).toEqual(["never", "host", "private", "not-allowed"]);
    expect(prefixes(OFF)).toEqual(["never", "host", "off"]);
    expect(prefixes(ALLOW)).toEqual(["never", "host", "private", "not-allowed"]);
    for (const chain of ["forward3", "input3"]) {
      for (const log of reports(additionOfVm(vm(ALLOW)), chain)) expect(log.group).toBe(group);
    }
  });

  it.each([OPEN, OFF, ALLOW])("refuse whatever they do not let through: %j", (policy) => {
    const commands = additionOfVm(vm(policy));
    for (const chain of ["forward3", "input3"])
      expect(rules(commands, chain).at(-1)).toEqual([{ goto: { target: REFUSE } }]);
    // A refusal that is reported is a refusal: the same condition comes twice.
    const forward = rules(commands, "forward3");
    for (const [i, rule] of forward.entries()) {
      if (!rule.some((step) => "log" in step)) continue;
      expect(forward[i + 1]).toEqual([...rule.slice(0, -2), { goto: { target: REFUSE } }]);
    }
  });

  it("take only connections to the ports of names to the proxy", () => {
    const isRedirect = (step: NftStatement) => "redirect" in step;
    const redirects = (policy: TapVm["policy"]) =>
      rules(additionOfVm(vm(policy)), "names3").filter((rule) => rule.some(isRedirect));
    expect([redirects(OPEN), redirects(OFF), redirects({ ...ALLOW, names: [] })]).toEqual([[], [], []]);
    expect(redirects(ALLOW)).toHaveLength(1);
    const [first] = rules(additionOfVm(vm(ALLOW)), "names3");
    expect(JSON.stringify(first)).toContain('{"set":[443,80]}');
  });

  it("let the proxy be reached under every policy but off", () => {
    const text = (policy: TapVm["policy"]) => JSON.stringify(rules(additionOfVm(vm(policy)), "input3"));
    expect([OPEN, ALLOW, OFF].map((policy) => text(policy).includes("29653"))).toEqual([true, true, false]);
  });

  it("limit what the guest sends in bytes, and let a TAP's largest packets pass", () => {
    const limit = (rateLimitMbps: number) => rules(additionOfVm(vm(OPEN, { rateLimitMbps })), "rate3")[0]?.[0];
    expect(limit(1)).toMatchObject({ limit: { rate: 125_000, burst: 131_072, rate_unit: "bytes", inv: true } });
    expect(limit(0.01)).toMatchObject({ limit: { rate: 1_250, burst: 131_072 } });
    expect(rules(additionOfVm(vm(OPEN)), "rate3")).toEqual([]);
  });

  it.each([{}, { rateLimitMbps: 8 }])("are removed as completely as they were added: %j", (extra) => {
    const added = additionOfVm(vm(ALLOW, extra));
    const removed = removalOfVm(vm(ALLOW, extra));
    const chains = added.flatMap((command) => ("create" in command ? [command.create.chain.name] : []));
    const elements = (commands: readonly NftCommand[], verb: "add" | "delete") =>
      commands.flatMap((command) => {
        const what = verb in command ? (command as Record<string, { element?: unknown }>)[verb] : undefined;
        return what?.element === undefined ? [] : [JSON.stringify(what.element)];
      });
    const deleted = removed.flatMap((command) =>
      "delete" in command && "chain" in command.delete ? [command.delete.chain.name] : [],
    );
    expect(deleted).toEqual(chains);
    expect(elements(removed, "delete")).toEqual(elements(added, "add"));
    // Whatever is missing is added first, so that nothing is missing when it is removed.
    expect(elements(removed, "add")).toEqual(elements(added, "add"));
    expect(elements(replacementOfVm(vm(ALLOW, extra)), "add")).toEqual(elements(added, "add"));
  });
});

describe("the rules that all share", () => {
  const base = baseRules(["eth0"]);

  it("end with a drop wherever a device of ours is concerned", () => {
    for (const chain of ["early", "from_guest", "to_host", "forward", "output"]) {
      expect([chain, rules(base, chain).at(-1)]).toEqual([chain, [{ drop: null }]]);
    }
  });

  it("touch nothing of others: no policy but accept, no table but ours, nothing flushed whole", () => {
    const text = JSON.stringify([...base, ...additionOfVm(vm(ALLOW)), ...removalOfVm(vm(OPEN)), ...removalOfTables()]);
    const commands = JSON.parse(text) as Record<string, Record<string, Record<string, unknown>>>[];
    for (const command of commands) {
      for (const what of Object.values(command)) {
        for (const [kind, one] of Object.entries(what)) {
          expect(kind === "table" ? one["name"] : one["table"]).toBe("smolvm");
          expect(["inet", "arp"]).toContain(one["family"]);
          expect([undefined, "accept"]).toContain(one["policy"]);
        }
      }
    }
  });

  it("guard the devices on which the host forwards for us", () => {
    const guards = base.filter((command) => JSON.stringify(command).includes('"guarded","elem":["eth0"]'));
    expect(guards).toHaveLength(1);
    expect(JSON.stringify(baseRules([]))).not.toContain('"guarded","elem"');
  });
});
