// The rules of one VM: what it may send as, and where its packets may go. A connection's packets are judged one by one
// in the direction of who began it, so a policy that becomes stricter ends what goes on already.

import type { EgressRules } from "../egress-policy.js";
import { addressesOf } from "./addresses.js";
import { DIRECT, REFUSE, SETS } from "./base-rules.js";
import { directDestinations } from "./destinations.js";
import type { NftCommand, NftExpression, NftStatement } from "./nft-command.js";
import * as words from "./rule-words.js";
import {
  ARP,
  accept,
  addressSet,
  drop,
  elementsOf,
  goTo,
  header,
  INET,
  is,
  isIn,
  isNot,
  isOneOf,
  jump,
  rulesOf,
} from "./rule-words.js";

/** What the rules need to know of a VM. */
export interface TapVm {
  /** Of its lease. */
  readonly index: number;
  readonly macAddress: string;
  readonly policy: Pick<EgressRules, "mode" | "names" | "networks">;
  /** Of what it sends, in megabits per second. Default none. */
  readonly rateLimitMbps?: number | undefined;
}

/** Where tapguard's proxy listens on the gateway; see docs/network.md. */
export const PROXY_PORT = 29_653;
const DNS_PORT = 53;
/**
 * Connections of one VM at a time, pings and questions to DNS among them. The kernel remembers those of the whole host in
 * one table (nf_conntrack_max, 262 144 on most hosts), which no guest may fill.
 */
const CONNECTION_LIMIT = 4_096;
/** The kernel remembers a connection for two minutes after its end, and does not count it then: so their rate is limited, too. */
const NEW_PER_SECOND = 200;
const NEW_BURST = 2_000;
/** Refusals of one rule that are reported, per second. tapguard counts and bounds them further. */
const REPORTS_PER_SECOND = 20;
const BYTES_PER_MEGABIT = 125_000;
/** What may be sent at once beyond what the kernel grants anyway, which is as much as the rate gives in a second. */
const BURST_BYTES = 128 * 1024;

type Rule = readonly NftStatement[];

/** Adds a VM that is not there. Fails, and changes nothing, where something of it is. */
export function additionOfVm(vm: TapVm): readonly NftCommand[] {
  return [...chainNames(vm).map((name): NftCommand => ({ create: { chain: { ...INET, name } } })), ...contentOfVm(vm)];
}

/**
 * Adds a VM, or gives it another policy: its chains are written anew. The kernel makes nft wait until nobody uses the
 * old ones (8 to 16 ms here), so this is not for a VM that is new.
 */
export function replacementOfVm(vm: TapVm): readonly NftCommand[] {
  return [
    ...chainNames(vm).flatMap((name): NftCommand[] => [
      { add: { chain: { ...INET, name } } },
      { flush: { chain: { ...INET, name } } },
    ]),
    ...contentOfVm(vm),
  ];
}

/** Removes a VM. Adds it first, because what is not there cannot be removed. */
export function removalOfVm(vm: TapVm): readonly NftCommand[] {
  const names = chainNames(vm);
  const elements = elementsOfVm(vm);
  return [
    ...names.map((name): NftCommand => ({ add: { chain: { ...INET, name } } })),
    ...elements.map((element): NftCommand => ({ add: element })),
    ...elements.map((element): NftCommand => ({ delete: element })),
    ...names.flatMap((name): NftCommand[] => [
      { flush: { chain: { ...INET, name } } },
      { delete: { chain: { ...INET, name } } },
    ]),
  ];
}

/** Names of a VM's own chains. */
export function chainsOf(index: number) {
  return { forward: `forward${index}`, input: `input${index}`, names: `names${index}`, rate: `rate${index}` } as const;
}

function chainNames({ index, rateLimitMbps }: TapVm): readonly string[] {
  const { rate, ...others } = chainsOf(index);
  return [...Object.values(others), ...(rateLimitMbps === undefined ? [] : [rate])];
}

function contentOfVm(vm: TapVm): NftCommand[] {
  const chains = chainsOf(vm.index);
  return [
    ...rulesOf(chains.forward, forwardRules(vm)),
    ...rulesOf(chains.input, inputRules(vm)),
    ...rulesOf(chains.names, nameRules(vm)),
    ...(vm.rateLimitMbps === undefined ? [] : rulesOf(chains.rate, [beyondRate(vm.rateLimitMbps)])),
    ...elementsOfVm(vm).map((element): NftCommand => ({ add: element })),
  ];
}

/** All elements of a VM, in sets and maps of the base. */
function elementsOfVm({ index, macAddress, rateLimitMbps }: TapVm) {
  const { device, guest, gateway } = addressesOf(index);
  const chains = chainsOf(index);
  return [
    elementsOf(SETS.guests, [{ concat: [device, macAddress, guest] }]),
    elementsOf(SETS.addresses, [{ concat: [device, guest] }]),
    elementsOf(SETS.gateways, [gateway]),
    elementsOf(SETS.forwardOf, [[device, jump(chains.forward)]]),
    elementsOf(SETS.inputOf, [[device, jump(chains.input)]]),
    elementsOf(SETS.namesOf, [[device, jump(chains.names)]]),
    ...(rateLimitMbps === undefined ? [] : [elementsOf(SETS.rateOf, [[device, jump(chains.rate)]])]),
    elementsOf(SETS.neighbours, [{ concat: [device, macAddress, macAddress, guest, gateway] }], ARP),
  ];
}

/** What leaves the host. In the order in which tapguard's own policy decides, so that both name the same rule. */
function forwardRules({ index, policy }: TapVm): readonly Rule[] {
  const { logGroup } = addressesOf(index);
  const destination = header("ip", "daddr");
  const refuse = (rule: string, ...when: NftStatement[]) => refusal(logGroup, rule, when);
  return [
    ...refuse("never", isIn(SETS.never, destination)),
    [words.toDevice, goTo(REFUSE)],
    // Ours goes to the proxy, and that is no forwarding: somebody's rules lead from an address to another one.
    ...refuse("host", words.isRedirected),
    ...(policy.mode === "open" ? refuse("private", isIn(SETS.private, destination)) : []),
    ...overLimits(),
    ...(policy.mode === "open" ? [[jump(DIRECT)]] : []),
    ...(policy.mode === "allow" ? directRules(policy.networks) : []),
    // An ICMP error about a connection that is no longer allowed.
    [words.isRelated, goTo(REFUSE)],
    ...(policy.mode === "allow" ? refuse("private", isIn(SETS.private, destination)) : []),
    ...refuse(policy.mode === "off" ? "off" : "not-allowed"),
  ];
}

/** What is for the host itself. Answers on connections that the host began are not judged here. */
function inputRules({ index, policy }: TapVm): readonly Rule[] {
  const { gateway, logGroup } = addressesOf(index);
  const toGateway = is(header("ip", "daddr"), gateway);
  const toProxy = [toGateway, is(header("tcp", "dport"), PROXY_PORT), words.isRedirected, accept];
  return [
    ...overLimits(),
    [toGateway, is(header("udp", "dport"), DNS_PORT), accept],
    [toGateway, is(header("tcp", "dport"), DNS_PORT), accept],
    // Also in mode "open": connections that began under names go on. tapguard ends those that it must.
    ...(policy.mode === "off" ? [] : [toProxy]),
    ...refusal(logGroup, "host", []),
  ];
}

/** Which connections go to the proxy. Those that go somewhere directly, or nowhere at all, do not. */
function nameRules({ policy }: TapVm): readonly Rule[] {
  const ports = [...new Set(policy.names.map(({ port }) => port))];
  if (policy.mode !== "allow" || ports.length === 0) return [];
  const destination = header("ip", "daddr");
  const { anyPort, byPort } = directDestinations(policy.networks);
  return [
    [isNot(header("tcp", "dport"), setOf(ports)), accept],
    [isIn(SETS.never, destination), accept],
    [isIn(SETS.private, destination), accept],
    [is({ fib: { result: "type", flags: ["daddr"] } }, "local"), accept],
    ...(anyPort.length === 0 ? [] : [[is(destination, addressSet(anyPort)), accept]]),
    ...byPort.map(({ ports: direct, ranges }) => [
      is(header("tcp", "dport"), setOf(direct)),
      is(destination, addressSet(ranges)),
      accept,
    ]),
    [is(words.l4proto, "tcp"), { redirect: { port: PROXY_PORT } }],
  ];
}

/** Drops what is too much. What the guest receives is limited at the device, where it can wait; see rate-limit.ts. */
function beyondRate(rateLimitMbps: number): Rule {
  const rate = Math.ceil(rateLimitMbps * BYTES_PER_MEGABIT);
  const units = { rate_unit: "bytes", burst_unit: "bytes" } as const;
  return [{ limit: { rate, per: "second", burst: BURST_BYTES, ...units, inv: true } }, drop];
}

function directRules(networks: EgressRules["networks"]): readonly Rule[] {
  const { anyPort, byPort } = directDestinations(networks);
  const destination = header("ip", "daddr");
  return [
    ...(anyPort.length === 0 ? [] : [[is(destination, addressSet(anyPort)), jump(DIRECT)]]),
    ...byPort.map(({ ports, ranges }) => [
      is(destination, addressSet(ranges)),
      is(words.l4proto, { set: ["tcp", "udp"] }),
      is(header("th", "dport"), setOf(ports)),
      accept,
    ]),
  ];
}

/** Reported first, then refused. */
function refusal(group: number, rule: string, when: readonly NftStatement[]): readonly Rule[] {
  const limit = { limit: { rate: REPORTS_PER_SECOND, per: "second", burst: REPORTS_PER_SECOND } } as const;
  return [
    [...when, limit, { log: { prefix: rule, group } }],
    [...when, goTo(REFUSE)],
  ];
}

/** Not reported: it is no rule of the policy. */
function overLimits(): readonly Rule[] {
  const isNew = isOneOf({ ct: { key: "state" } }, ["new"]);
  const isTooFast = { limit: { rate: NEW_PER_SECOND, burst: NEW_BURST, per: "second", inv: true } } as const;
  return [
    [isNew, isTooFast, goTo(REFUSE)],
    [isNew, { "ct count": { val: CONNECTION_LIMIT, inv: true } }, goTo(REFUSE)],
  ];
}

function setOf(ports: readonly number[]): NftExpression {
  return { set: ports };
}
