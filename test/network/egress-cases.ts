// What a guest under one policy tries, and what has to become of it: the same for every network mode.

import { readFrame } from "../support/frames.js";
import { HOST, PRIVATE, PUBLIC, ROUTER } from "../support/internet.js";
import type { Contact, Outcome, Packet, Probe, Zone } from "../support/internet-tool.js";

/** Outside: servers of allowed names, of everything else, and what is allowed by its address. */
export const [GOOD, OTHER, BY_ADDRESS, EVIL, RESOLVER] = PUBLIC;
/** Private, opened and not. */
export const [OPENED, CLOSED] = PRIVATE;

/** The policy under which {@link egressCases} are tried. */
export const POLICY = {
  allow: ["api.exact.test", "*.good.test", "ported.test:8443", BY_ADDRESS, `${EVIL}:25`, `${OPENED}/32`],
} as const;

export const ZONE: Zone = {
  "api.exact.test": { a: [GOOD], aaaa: ["2001:db8:66::1"] },
  "sub.api.exact.test": { a: [GOOD] },
  "good.test": { a: [GOOD] },
  "*.good.test": { a: [GOOD] },
  "cname.good.test": { cname: "evil.test" },
  "private.good.test": { a: [CLOSED] },
  "opened.good.test": { a: [OPENED] },
  "mixed.good.test": { a: [CLOSED, "127.0.0.1", GOOD] },
  "loop.good.test": { a: ["127.0.0.1"] },
  "host.good.test": { a: [HOST.lan] },
  "host2.good.test": { a: [HOST.privateLan] },
  "meta.good.test": { a: ["169.254.169.254"] },
  "zero.good.test": { a: ["0.0.0.0"] },
  "six.good.test": { aaaa: ["::1"] },
  "nothing.good.test": { rcode: 3 },
  "ported.test": { a: [GOOD] },
  "evil.test": { a: [EVIL] },
  "xgood.test": { a: [EVIL] },
};

type Ending = Outcome["outcome"];
/** Ways in which a connection is refused, at once, at the level of TCP, UDP or ICMP. */
const REFUSED: readonly Ending[] = ["refused", "prohibited", "unreachable", "reset"];
const CA = "/root/ca.pem";
const REFUSED_RCODE = 5;
const EDE_PROHIBITED = 18;

/** One thing to try. */
export interface EgressCase {
  readonly name: string;
  readonly probe: Probe;
  readonly endings: readonly Ending[];
  /** What the reply has to look like. */
  readonly reply?: RegExp;
  readonly lookup?: Outcome["lookup"] | object;
}

const get = (host: string, path = "/") => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;

function tls(serverName: string, address: string, port = 443): Probe {
  const text = `GET / HTTP/1.0\r\nHost: ${serverName}\r\n\r\n`;
  return { kind: "tls", address, port, serverName, caFile: CA, text, readAll: true };
}

function http(text: string, address: string = GOOD, port = 80): Probe {
  return { kind: "tcp", address, port, text, readAll: true };
}

const ok = (name: string, probe: Probe, reply?: RegExp): EgressCase => ({
  ...{ name, probe, endings: ["ok"] },
  ...(reply === undefined ? {} : { reply }),
});
const refused = (name: string, probe: Probe, endings = REFUSED): EgressCase => ({ name, probe, endings });
const alert = (name: string, probe: Probe): EgressCase => ({ name, probe, endings: ["alert"], reply: /access denied/ });
/** An answer of the proxy's own. */
const denied = (name: string, probe: Probe, reply = /^HTTP\/1.1 403 [\s\S]*SmolVM/): EgressCase => ({
  ...{ name, probe, endings: ["ok"], reply },
});
const served = (address: string) => new RegExp(`"address":"${address.replaceAll(".", "\\.")}"`);

export function egressCases(): EgressCase[] {
  return [...dnsCases(), ...tlsCases(), ...httpCases(), ...addressCases()];
}

function dnsCases(): EgressCase[] {
  const ask = (name: string, extra: Partial<Probe> = {}): Probe => ({ kind: "dns", name, edns: true, ...extra });
  const answered = (name: string, answers: readonly string[], extra: Partial<Probe> = {}): EgressCase => ({
    ...{ name: `DNS of ${name} ${JSON.stringify(extra)}`, probe: ask(name, extra), endings: ["ok"] },
    lookup: { rcode: 0, answers },
  });
  const prohibited = (name: string, extra: Partial<Probe> = {}): EgressCase => ({
    ...{ name: `DNS of ${name} ${JSON.stringify(extra)}`, probe: ask(name, extra), endings: ["ok"] },
    lookup: { rcode: REFUSED_RCODE, answers: [], ...(extra.edns === false ? {} : { ede: EDE_PROHIBITED }) },
  });
  return [
    answered("api.exact.test", [GOOD]),
    answered("API.Exact.TEST", [GOOD]),
    answered("api.exact.test", [GOOD], { byTcp: true }),
    answered("api.exact.test", [], { type: "AAAA" }),
    answered("a.good.test", [GOOD]),
    answered("a.b.c.good.test", [GOOD]),
    answered("cname.good.test", ["CNAME evil.test", EVIL]),
    answered("ported.test", [GOOD]),
    prohibited("good.test"),
    prohibited("sub.api.exact.test"),
    prohibited("exact.test"),
    prohibited("xgood.test"),
    prohibited("evil.test"),
    prohibited("evil.test", { byTcp: true }),
    prohibited("evil.test", { type: "TXT" }),
    prohibited("evil.test", { edns: false }),
    prohibited("c2VjcmV0.evil.test"),
    refused("DNS of another resolver by UDP", ask("api.exact.test", { address: RESOLVER })),
    refused("DNS of another resolver by TCP", ask("api.exact.test", { address: RESOLVER, byTcp: true })),
  ];
}

function tlsCases(): EgressCase[] {
  const rebound = ["private", "loop", "host", "host2", "meta", "zero", "six", "nothing"];
  return [
    ok("TLS to an allowed name", tls("api.exact.test", "api.exact.test"), served(GOOD)),
    ok("TLS to a name below a wildcard", tls("a.b.good.test", "a.b.good.test"), served(GOOD)),
    ok("TLS to a name with a port", tls("ported.test", "ported.test", 8_443), served(GOOD)),
    ok("an allowed name goes where it leads, not where the guest says", tls("api.exact.test", EVIL), served(GOOD)),
    ok("a ClientHello in pieces", { ...tls("api.exact.test", GOOD), split: 40 }, served(GOOD)),
    ok("HTTP/2 by ALPN", { ...tls("api.exact.test", GOOD), alpn: ["h2", "http/1.1"], text: "", readAll: false }),
    ok("a private address that is allowed itself", tls("opened.good.test", GOOD), served(OPENED)),
    ok("private answers beside a public one are left out", tls("mixed.good.test", GOOD), served(GOOD)),
    alert("TLS to another name", tls("evil.test", EVIL)),
    alert("TLS to another name at an allowed name's address", tls("evil.test", GOOD)),
    alert("TLS to another name, in pieces", { ...tls("evil.test", GOOD), split: 40 }),
    alert("TLS to the name above a wildcard", tls("good.test", GOOD)),
    alert("TLS to a name that only ends like a wildcard", tls("xgood.test", GOOD)),
    alert("TLS to a name of another port", tls("ported.test", GOOD, 443)),
    alert("TLS without a name", { ...tls("", GOOD), text: "x" }),
    ...rebound.map((name) => alert(`${name}.good.test leads to what is closed`, tls(`${name}.good.test`, GOOD))),
    refused("the address that a name leads to, if it is private", tls("private.good.test", CLOSED)),
    refused("TLS to a private address by name", tls("api.exact.test", CLOSED)),
    refused("TLS to the host by name", tls("api.exact.test", HOST.lan)),
    refused("QUIC", { kind: "udp", address: GOOD, port: 443, text: "quic" }),
  ];
}

function httpCases(): EgressCase[] {
  const pair = (second: string) => `GET /first HTTP/1.1\r\nHost: api.exact.test\r\n\r\n${second}`;
  const body = get("evil.test", "/smuggled");
  const bad = /^HTTP\/1.1 4\d\d /;
  /** The first request may be served; `expectOnlyAllowed` says that no other was. */
  const first = (name: string, text: string): EgressCase => ({
    ...{ name, probe: http(text), endings: ["ok", "reset", "closed"] },
  });
  return [
    ok("HTTP to an allowed name", http(get("api.exact.test")), served(GOOD)),
    ok("HTTP to an allowed name at another's address", http(get("API.exact.test:80"), EVIL), served(GOOD)),
    ok("HTTP in pieces", { ...http(get("api.exact.test")), split: 7 }, served(GOOD)),
    denied("HTTP to another name", http(get("evil.test"), EVIL), /^HTTP\/1.1 403 [\s\S]*evil\.test:80/),
    denied("HTTP to another name at an allowed name's address", http(get("evil.test"))),
    denied("HTTP to an address", http(get(GOOD))),
    denied("HTTP to a private answer", http(get("private.good.test"))),
    denied("HTTP to a name of another port", http(get("ported.test"))),
    denied("HTTP without a Host", http("GET / HTTP/1.0\r\n\r\n"), bad),
    denied("HTTP with two Hosts", http("GET / HTTP/1.1\r\nHost: api.exact.test\r\nHost: evil.test\r\n\r\n"), bad),
    denied("HTTP with an absolute target", http(get("api.exact.test", "http://evil.test/")), bad),
    denied("HTTP with a folded Host", http("GET / HTTP/1.1\r\nHost: api.exact.test\r\n evil.test\r\n\r\n"), bad),
    denied("CONNECT", http("CONNECT evil.test:443 HTTP/1.1\r\nHost: api.exact.test\r\n\r\n"), bad),
    first("a second request for another name", pair(get("evil.test", "/second"))),
    first("a second request with an absolute target", pair(get("api.exact.test", "http://evil.test/second"))),
    first(
      "a request hidden in a body",
      `POST / HTTP/1.1\r\nHost: api.exact.test\r\nContent-Length: ${body.length}\r\n` +
        `Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${body}`,
    ),
    first(
      "a request hidden behind a short body",
      `POST / HTTP/1.1\r\nHost: api.exact.test\r\nContent-Length: 0\r\n\r\n${body}`,
    ),
    first(
      "an upgrade to something else",
      `GET / HTTP/1.1\r\nHost: api.exact.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n${body}`,
    ),
    {
      ...{ name: "HTTP/2 without TLS", probe: http("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") },
      endings: ["ok", "reset", "closed"],
    },
    { name: "what is not HTTP", probe: http("SSH-2.0-OpenSSH\r\n"), endings: ["ok", "reset", "closed"] },
    refused("HTTP on a port that is not allowed", http(get("api.exact.test"), GOOD, 8_080)),
  ];
}

function addressCases(): EgressCase[] {
  const text = "x";
  return [
    ok("TCP to an allowed address", { kind: "tcp", address: BY_ADDRESS, port: 20_100, text }, /^outside:x/),
    ok("UDP to an allowed address", { kind: "udp", address: BY_ADDRESS, port: 20_101, text }, /^outside:x/),
    ok("ping to an allowed address", { kind: "ping", address: BY_ADDRESS, text }),
    ok("TCP to an allowed port", { kind: "tcp", address: EVIL, port: 25, text }, /^smtp:x/),
    ok("TCP to an allowed private address", { kind: "tcp", address: OPENED, port: 20_102, text }, /^outside:x/),
    ok("plain HTTP to an allowed address", http(get("whatever.test"), BY_ADDRESS), served(BY_ADDRESS)),
    refused("TCP to another port of an allowed port's address", { kind: "tcp", address: EVIL, port: 20_103, text }),
    refused("UDP to an allowed TCP and UDP port's neighbour", { kind: "udp", address: EVIL, port: 26, text }),
    refused("ping to an address with an allowed port", { kind: "ping", address: EVIL, text }),
    refused("TCP to another address", { kind: "tcp", address: OTHER, port: 20_104, text }),
    refused("UDP to another address", { kind: "udp", address: OTHER, port: 20_105, text }),
    refused("ping to another address", { kind: "ping", address: OTHER, text }),
    refused("TCP to a private address", { kind: "tcp", address: CLOSED, port: 20_106, text }),
    refused("TCP to the host", { kind: "tcp", address: HOST.lan, port: 20_107, text }),
    refused("TCP to a link-local address", { kind: "tcp", address: "169.254.169.254", port: 80, text }),
  ];
}

/** What did not end as it must, one line each. */
export function wrongEndings(cases: readonly EgressCase[], outcomes: readonly Outcome[]): string[] {
  return cases.flatMap((one, i) => {
    const outcome = outcomes[i];
    if (outcome === undefined) return [`${one.name}: no outcome`];
    const told = `${outcome.outcome} ${outcome.error ?? ""} ${JSON.stringify(outcome.lookup ?? outcome.reply)}`;
    const saying = outcome.outcome === "ok" ? outcome.reply : (outcome.error ?? "");
    const isRight =
      one.endings.includes(outcome.outcome) &&
      (one.reply === undefined || one.reply.test(saying)) &&
      (one.lookup === undefined || isPart(one.lookup, outcome.lookup));
    return isRight ? [] : [`${one.name} | expected ${one.endings.join("/")} | ${told.slice(0, 300)}`];
  });
}

function isPart(part: object, whole: object | undefined): boolean {
  const entries = Object.entries(part) as [keyof typeof whole, unknown][];
  return whole !== undefined && entries.every(([key, value]) => JSON.stringify(whole[key]) === JSON.stringify(value));
}

/** Packets that have left the host for what {@link POLICY} does not allow. */
export function strayPackets(packets: readonly Packet[]): string[] {
  const isAllowed = (address: string, protocol: number | undefined, port: number | undefined) =>
    address === BY_ADDRESS ||
    address === OPENED ||
    (address === EVIL && port === 25) ||
    (address === GOOD && protocol === 6 && (port === 80 || port === 443 || port === 8_443));
  const stray = packets.flatMap(({ hex, isOutgoing }) => {
    const { source, destination = "", protocol, port, etherType } = readFrame(hex);
    if (!isOutgoing || etherType !== 0x0800 || destination === ROUTER) return [];
    return isAllowed(destination, protocol, port) ? [] : [`${source} -> ${destination} ${protocol} ${port}`];
  });
  return [...new Set(stray)];
}

/** Requests that came to a server for a name that {@link POLICY} does not allow. */
export function strayRequests(contacts: readonly Contact[]): string[] {
  const isAllowed = (text: string) => /^(api\.exact\.test|([a-z0-9-]+\.)+good\.test|ported\.test)\b/i.test(text);
  return contacts
    .filter(({ protocol, address }) => /request|hello/.test(protocol) && address !== BY_ADDRESS)
    .map(({ text }) => text ?? "")
    .filter((text) => !isAllowed(text) || /second|smuggled|evil/.test(text));
}

/** Names that the host's resolver was asked for and that {@link POLICY} does not allow. */
export function strayQuestions(contacts: readonly Contact[]): string[] {
  const isAllowed = (text: string) => /^(api\.exact\.test|([a-z0-9-]+\.)+good\.test|ported\.test) /.test(text);
  return contacts
    .filter(({ protocol }) => protocol === "dns")
    .map(({ text }) => text ?? "")
    .filter((text) => !isAllowed(text));
}
