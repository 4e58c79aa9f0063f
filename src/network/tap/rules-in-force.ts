// Whether the kernel still has our rules: somebody may have flushed them. nft lists one chain or set in 3 to 4 ms, but a
// whole table of 100 VMs in 40 ms, so this looks at samples: where a flush of anything that people flush shows.

import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../../host/process.js";
import { addressesOf } from "./addresses.js";
import { BASE_MARK, baseRules, MARKED_CHAIN, SETS } from "./base-rules.js";
import type { NftCommand } from "./nft-command.js";
import { sealOf, TABLE } from "./rule-words.js";
import { chainsOf, replacementOfVm, type TapVm } from "./vm-rules.js";

/** What nft prints, as far as it matters here. */
interface Listed {
  readonly rule?: { readonly comment?: string };
  readonly set?: { readonly elem?: readonly unknown[] };
  readonly map?: { readonly elem?: readonly unknown[] };
}

/** True when the rules that all VMs share are those of this version. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
export async function isBaseInForce(deadline: Deadline): Promise<boolean> {
  const listed = await list("chain", MARKED_CHAIN, deadline);
  const rules = (listed ?? []).flatMap(({ rule }) => rule ?? []);
  const count = countRules(baseRules([]), MARKED_CHAIN);
  return rules.length === count && rules[0]?.comment === sealOf(count, BASE_MARK);
}

/**
 * True when a VM's rules and those that all share are in force. It does not compare single rules.
 *
 * @throws {TIMEOUT} {ABORTED}
 */
export async function areRulesInForce(vm: TapVm, deadline: Deadline): Promise<boolean> {
  const own = chainsOf(vm.index);
  const wanted = [...baseRules([]), ...replacementOfVm(vm)];
  const { device, guest } = addressesOf(vm.index);
  const answers = await Promise.all([
    isBaseInForce(deadline),
    ...["early", "input", own.forward, own.input].map((chain) => isWhole(chain, wanted, deadline)),
    hasElement("set", SETS.guests, JSON.stringify({ concat: [device, vm.macAddress, guest] }), deadline),
    hasElement("map", SETS.forwardOf, JSON.stringify([device, { jump: { target: own.forward } }]), deadline),
  ]);
  return answers.every(Boolean);
}

async function isWhole(chain: string, wanted: readonly NftCommand[], deadline: Deadline): Promise<boolean> {
  const listed = await list("chain", chain, deadline);
  return listed?.filter(({ rule }) => rule !== undefined).length === countRules(wanted, chain);
}

async function hasElement(kind: "set" | "map", name: string, json: string, deadline: Deadline): Promise<boolean> {
  const listed = (await list(kind, name, deadline)) ?? [];
  const elements = listed.flatMap((item) => item[kind]?.elem ?? []);
  return elements.some((element) => JSON.stringify(element) === json);
}

/** @returns `undefined` when there is no such thing. */
async function list(kind: "chain" | "set" | "map", name: string, deadline: Deadline): Promise<Listed[] | undefined> {
  try {
    const { stdout } = await runProgram(["nft", "-j", "list", kind, "inet", TABLE, name], {
      timeoutMs: deadline.remainingMs,
      signal: deadline.signal,
    });
    return (JSON.parse(stdout) as { nftables: Listed[] }).nftables;
  } catch (error) {
    if (isSmolVMError(error, "HOST_COMMAND_FAILED") || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function countRules(commands: readonly NftCommand[], chain: string): number {
  const isOne = (command: NftCommand) =>
    "add" in command && "rule" in command.add && command.add.rule.family === "inet" && command.add.rule.chain === chain;
  return commands.filter(isOne).length;
}
