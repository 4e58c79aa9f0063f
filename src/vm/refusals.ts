// What a VM's guest was refused: what the network's guard wrote down, for users to read.

import { join } from "node:path";
import { z } from "zod";
import { readLog } from "./console-log.js";

/** Name of the log with refusals, in the VM's own directory; the guard bounds it. */
const REFUSALS_LOG = "refusals";
/** What is read of it, in bytes; the guard keeps no more. */
const REFUSALS_LIMIT_BYTES = 1024 * 1024;

/** Where a guard writes. */
export function refusalsPath(directory: string): string {
  return join(directory, `${REFUSALS_LOG}.log`);
}

/** The last moment that a Date can be, in milliseconds since 1970 (ECMA-262, 21.4.1.1). */
const LATEST_MS = 8.64e15;

/** What a guard writes, see docs/network.md. A guest has a say in `name` and `address`. */
const recordSchema = z.object({
  at: z.int().min(0).max(LATEST_MS),
  protocol: z.enum(["tcp", "udp", "icmp", "dns", "tls", "http", "ip6", "other"]),
  address: z.string().max(64).nullable(),
  port: z.int().min(0).max(65_535).nullable(),
  name: z.string().max(255).transform(visible).nullable(),
  rule: z.string().max(64),
  count: z.int().min(1),
  allow: z.string().max(300).nullable(),
});

/** Something that a guest was refused. */
export interface NetworkDenial {
  /** When it was first tried, ISO 8601. */
  readonly at: string;
  /** What it came by: `tls`, `http` and `dns` where a name was looked at. */
  readonly protocol: z.output<typeof recordSchema>["protocol"];
  readonly address: string | null;
  readonly port: number | null;
  /** As the guest gave it. */
  readonly name: string | null;
  /** `off host never private not-allowed name-not-allowed no-name private-answer unresolved ip6 malformed spoofed` */
  readonly rule: string;
  /** How often within some seconds. */
  readonly count: number;
  /** Entry of `allow` that would permit it; null where nothing does. */
  readonly allow: string | null;
  /** All of it as a sentence. */
  readonly message: string;
}

const WHY: Readonly<Record<string, string>> = {
  off: "egress is off",
  host: "guests do not reach their host",
  never: "loopback, link-local, multicast and reserved addresses are never reached",
  private: "private networks are not reached unless they are allowed",
  "not-allowed": "no entry of allow covers it",
  "name-not-allowed": "no entry of allow covers the name",
  "no-name": "it does not say which server it is for",
  "private-answer": "the name leads to addresses that guests do not reach",
  unresolved: "the name has no address",
  ip6: "IPv6 is off",
  malformed: "it is not well-formed",
  spoofed: "its sender is not the guest",
};

/** @returns The refusals of a VM, the oldest first. Lines that are no record are skipped. */
export async function readRefusals(directory: string): Promise<NetworkDenial[]> {
  const text = await readLog(directory, REFUSALS_LOG, REFUSALS_LIMIT_BYTES);
  return text.split("\n").flatMap((line) => denialOf(line) ?? []);
}

function denialOf(line: string): NetworkDenial | undefined {
  const record = recordSchema.safeParse(parse(line));
  if (!record.success) return undefined;
  const { at, ...rest } = record.data;
  return { at: new Date(at).toISOString(), ...rest, message: messageOf(record.data) };
}

function messageOf({ protocol, address, port, name, rule, count, allow }: z.output<typeof recordSchema>): string {
  const host = name ?? address ?? "an unknown destination";
  const where = port === null || protocol === "dns" ? host : `${host}:${port}`;
  const via = name !== null && address !== null ? ` (${address})` : "";
  const times = count === 1 ? "" : `, ${count} times`;
  const remedy = allow === null ? "" : `; egress.allow ${JSON.stringify(allow)} would permit it`;
  return `refused ${protocol} to ${where}${via}${times}: ${WHY[rule] ?? rule}${remedy}`;
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** A guest has chosen it: nothing in it is to move a cursor. The guard escapes it, too. */
function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`;
  });
}
