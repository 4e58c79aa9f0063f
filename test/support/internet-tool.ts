// test/fixtures/internet: how it is built, what it is asked and what it answers, on the host's side and in a guest.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LineChild } from "./line-child.js";

const SOURCES = join(import.meta.dirname, "../fixtures/internet");
const GO_ENV = { CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOPROXY: "off", GOFLAGS: "-mod=mod" };

/** The program, built; gone at the end of the scope. */
export interface InternetTool extends Disposable {
  readonly path: string;
  readonly directory: string;
}

/** One service of a namespace. */
export interface Service {
  readonly kind: "tcp" | "udp" | "http" | "tls" | "dns" | "perf" | "sniff";
  readonly address?: string;
  readonly port?: number;
  /** That many ports from `port` on; 1 by default. */
  readonly count?: number;
  readonly name: string;
  /** Of a sniffer. */
  readonly device?: string;
}

/** What came to a service. Of DNS, `text` is "NAME TYPE PROTOCOL"; of HTTP host and path; of `tls-hello` the SNI. */
export interface Contact {
  readonly service: string;
  readonly protocol: "tcp" | "udp" | "dns" | "http-request" | "tls-request" | "tls-hello";
  readonly address: string;
  readonly port: number;
  readonly from: string;
  readonly fromPort: number;
  readonly text?: string;
}

/** A frame that was seen: its length and its first 192 bytes. */
export interface Packet {
  readonly isOutgoing: boolean;
  readonly length: number;
  readonly hex: string;
}

/** What a DNS server knows of a name; `*.x` is every name below x. */
export interface ZoneName {
  readonly a?: readonly string[];
  /** Sets of A records that are given in turn, the last one for ever. */
  readonly turns?: readonly (readonly string[])[];
  readonly aaaa?: readonly string[];
  readonly cname?: string;
  readonly txt?: string;
  readonly rcode?: number;
  /** No answer at all. */
  readonly mute?: boolean;
}
export type Zone = Readonly<Record<string, ZoneName>>;

/** One thing to try as an ordinary client. */
export interface Probe {
  readonly kind: "tcp" | "udp" | "ping" | "tls" | "dns" | "hold";
  readonly address?: string;
  readonly port?: number;
  readonly source?: string;
  readonly sourcePort?: number;
  readonly device?: string;
  readonly text?: string;
  /** Sends the text, or the ClientHello, in pieces of that many bytes. */
  readonly split?: number;
  /** Reads until the end. */
  readonly readAll?: boolean;
  /** Default 2 s. */
  readonly timeoutMs?: number;
  /** SNI; none when empty. */
  readonly serverName?: string;
  readonly alpn?: readonly string[];
  readonly caFile?: string;
  readonly name?: string;
  readonly type?: "A" | "AAAA" | "TXT" | "HTTPS" | "SVCB" | "ANY";
  readonly byTcp?: boolean;
  readonly edns?: boolean;
}

export interface Outcome {
  readonly outcome:
    | "ok"
    | "refused"
    | "reset"
    | "timeout"
    | "unreachable"
    | "prohibited"
    | "alert"
    | "closed"
    | "error";
  readonly reply: string;
  readonly error?: string;
  readonly ms: number;
  readonly lookup?: Lookup;
}

/** A DNS answer; `ede` is the code of an Extended DNS Error. */
export interface Lookup {
  readonly rcode: number;
  readonly isTruncated: boolean;
  readonly answers: readonly string[];
  readonly ede?: number;
  readonly edeText?: string;
}

/** A machine's own network, as its root sees it. */
export interface Facts {
  readonly device: string;
  readonly mac: string;
  readonly address: string;
  readonly prefix: number;
  readonly gateway: string;
  readonly gatewayMac: string;
  readonly resolvers: readonly string[];
}

/** A moment, for what came after it. */
export interface Mark {
  readonly contacts: number;
  readonly packets: Readonly<Record<string, number>>;
}

/** Builds the program, static: it runs in any guest. */
export function buildInternetTool(): InternetTool {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-internet-"));
  const path = join(directory, "internet");
  const files = readdirSync(SOURCES).map((name) => join(SOURCES, name));
  execFileSync("go", ["build", "-ldflags", "-s -w", "-o", path, ...files], {
    env: { ...process.env, ...GO_ENV },
    cwd: directory,
  });
  return { path, directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
}

/** The servers and sniffers of one namespace. */
export class NetServer implements AsyncDisposable {
  readonly #child: LineChild;

  private constructor(child: LineChild) {
    this.#child = child;
  }

  /** @param wrap Goes before the program's argv. `ca`: a directory that gets `ca.pem`. */
  static async start(
    tool: InternetTool,
    wrap: readonly string[],
    options: { readonly services: readonly Service[]; readonly zone?: Zone; readonly ca?: string },
  ): Promise<NetServer> {
    return new NetServer(await LineChild.start([...wrap, tool.path, "serve", JSON.stringify(options)]));
  }

  mark(): Promise<Mark> {
    return this.#child.ask({ op: "mark" });
  }

  contacts(since?: Mark): Promise<Contact[]> {
    return this.#child.ask({ op: "contacts", after: since?.contacts ?? 0 });
  }

  /** What a sniffer saw. */
  packets(name: string, since?: Mark): Promise<Packet[]> {
    return this.#child.ask({ op: "packets", name, after: since?.packets[name] ?? 0 });
  }

  /** Replaces everything that the DNS servers know. */
  setZone(zone: Zone): Promise<void> {
    return this.#child.ask({ op: "zone", zone });
  }

  /** Tries from within the namespace. */
  client(probes: readonly Probe[]): Promise<Outcome[]> {
    return this.#child.ask({ op: "client", probes });
  }

  /** What `perf` services have received, in bytes. */
  perfBytes(): Promise<number> {
    return this.#child.ask({ op: "perf" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.end();
  }
}
