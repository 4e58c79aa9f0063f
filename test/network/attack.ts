// One row of the isolation matrix, and what it takes to tell whether something of it arrived anywhere: each attack has a
// port of its own, on which host, outside and both guests answer, and a text of its own in what it sends.

import { expect } from "vitest";
import { readFrame, type Seen } from "../support/frames.js";
import { FIRST_PORT, type Internet, PORT_COUNT, PUBLIC } from "../support/internet.js";
import type { Guest } from "../support/internet-guest.js";
import type { Facts, Outcome, Packet, Probe } from "../support/internet-tool.js";
import { pause } from "../support/wait.js";

/** What all attacks of a file work with. */
export interface Bed {
  readonly mode: "user" | "tap";
  readonly internet: Internet;
  /** The attacker. */
  readonly a: Guest;
  readonly factsA: Facts;
  /** Its victim, on the same host. */
  readonly b: Guest;
  readonly factsB: Facts;
}

/** How one attack is told from the others. */
export interface Sign {
  readonly port: number;
  readonly text: string;
}

/**
 * What has to become of an attack. `closed`: nothing arrives and nobody answers. `open`: an ordinary client gets the
 * outside's answer. `seen`: a crafted frame's content goes out of the host; proves that frames are sent at all.
 */
export type Expected = "closed" | "open" | "seen";

export interface Attack {
  readonly name: string;
  readonly expected: Expected;
  /** By an ordinary client. */
  readonly probe?: (sign: Sign) => Probe;
  /** By crafted frames. */
  readonly frames?: (sign: Sign) => readonly Uint8Array[];
}

/** Longer than anything here takes to arrive, in milliseconds. */
const SETTLE_MS = 700;
const CLIENT_TIMEOUT_MS = 1_500;
const [TCP_SYN_ACK, ICMP_ECHO_REPLY, ICMP6_ECHO_REPLY] = [0x12, 0, 129];
/** Not in the outside: its sniffer sees the same link. */
const HOST_SNIFFERS = ["lo", "up0", "br0"] as const;

/** No attack's. */
const WATCH_PORT = FIRST_PORT;
let nextPort = WATCH_PORT + 1;

function nextSign(): Sign {
  if (nextPort >= FIRST_PORT + PORT_COUNT) throw new RangeError("More attacks than ports: raise PORT_COUNT");
  const port = nextPort++;
  return { port, text: `<svm${port}>` };
}

/** One attack, and everything that was seen of it. */
interface Row {
  readonly attack: Attack;
  readonly sign: Sign;
  outcome?: Outcome;
  readonly evidence: Set<string>;
}

/** Tries all attacks of one kind together; fails with a table of those that did not end as they must. */
export async function expectAttacks(bed: Bed, attacks: readonly Attack[]): Promise<void> {
  const rows: Row[] = attacks.map((attack) => ({ attack, sign: nextSign(), evidence: new Set() }));
  const { internet } = bed;
  const [hostMark, outsideMark] = [await internet.host.mark(), await internet.outside.mark()];
  const watched = await bed.b.watch(bed.factsB.device);
  const answers = await attackAll(bed, rows);
  const packets: [string, Packet[]][] = [["at guest B", await endWatch(bed, watched)]];
  for (const name of HOST_SNIFFERS) packets.push([`on ${name}`, await internet.host.packets(name, hostMark)]);
  for (const [place, seen] of packets) for (const one of seen) noteArrival(rows, place, readFrame(one.hex));
  for (const one of answers) noteAnswer(rows, readFrame(one.hex));
  for (const [place, server, mark] of [
    ["at the host", internet.host, hostMark],
    ["outside", internet.outside, outsideMark],
  ] as const) {
    for (const { port, text } of await server.contacts(mark)) {
      for (const row of rows) if (row.sign.port === port || isMarked(row.sign, text ?? "")) row.evidence.add(place);
    }
  }
  const wrong = rows.filter((row) => !isAsExpected(row)).map(line);
  expect(wrong, `${wrong.length} of ${rows.length} attacks in mode "${bed.mode}"`).toEqual([]);
}

/** Ends a watch at guest B, which must have seen what an ordinary exchange brings. */
async function endWatch({ b }: Bed, watched: () => Promise<Packet[]>): Promise<Packet[]> {
  await b.try({ kind: "tcp", address: PUBLIC[0], port: WATCH_PORT, text: "x" });
  const packets = await watched();
  expect(packets.some(({ hex }) => readFrame(hex).sourcePort === WATCH_PORT)).toBe(true);
  return packets;
}

async function attackAll({ a, factsA }: Bed, rows: readonly Row[]): Promise<readonly Packet[]> {
  const clients = rows.filter(({ attack }) => attack.probe !== undefined);
  if (clients.length > 0) {
    const probes = clients.map(({ attack, sign }) => ({ timeoutMs: CLIENT_TIMEOUT_MS, ...attack.probe!(sign) }));
    for (const [i, outcome] of (await a.client(probes)).entries()) clients[i]!.outcome = outcome;
  }
  const frames = rows.flatMap(({ attack, sign }) => attack.frames?.(sign) ?? []);
  if (frames.length === 0) {
    await pause(SETTLE_MS);
    return [];
  }
  const { sent, failed, received } = await a.frames(factsA.device, frames, SETTLE_MS);
  expect(failed).toEqual([]);
  expect(sent).toBe(frames.length);
  return received;
}

function isMarked(sign: Sign, text: string): boolean {
  return text.includes(sign.text);
}

function noteArrival(rows: readonly Row[], place: string, seen: Seen): void {
  const text = seen.bytes.toString("latin1");
  for (const { sign, evidence } of rows) if (seen.port === sign.port || isMarked(sign, text)) evidence.add(place);
}

/** What came back to the attacker. A refusal is no answer. */
function noteAnswer(rows: readonly Row[], seen: Seen): void {
  const text = seen.bytes.toString("latin1");
  for (const { sign, evidence } of rows) {
    const isSynAck = seen.tcpFlags !== undefined && (seen.tcpFlags & TCP_SYN_ACK) === TCP_SYN_ACK;
    const isDatagram = seen.protocol === 17;
    if (seen.sourcePort === sign.port && (isSynAck || isDatagram)) evidence.add("answered");
    const isEcho = seen.icmpType === ICMP_ECHO_REPLY || seen.icmpType === ICMP6_ECHO_REPLY;
    if (isEcho && isMarked(sign, text)) evidence.add("answered");
  }
}

function isAsExpected({ attack, outcome, evidence }: Row): boolean {
  if (attack.expected === "closed") return evidence.size === 0 && outcome?.outcome !== "ok";
  if (attack.expected === "seen") return evidence.has("on up0");
  return outcome?.outcome === "ok" && (evidence.has("outside") || evidence.has("on up0"));
}

function line({ attack, outcome, evidence }: Row): string {
  const client = outcome === undefined ? "" : ` client: ${outcome.outcome} ${outcome.error ?? ""}`;
  const arrived = evidence.size === 0 ? "nothing arrived" : `arrived ${[...evidence].join(", ")}`;
  return `${attack.name} | expected ${attack.expected} | ${arrived}${client}`;
}
