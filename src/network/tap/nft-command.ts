// The part of nftables' JSON (libnftables-json(5)) that our rules are made of, as types. Data only: nothing is run here.

/** What a rule compares, or compares with. */
export type NftExpression =
  | string
  | number
  | { readonly meta: { readonly key: "iifname" | "oifname" | "nfproto" | "l4proto" } }
  | { readonly payload: { readonly protocol: string; readonly field: string } }
  | {
      readonly ct: {
        readonly key: "direction" | "state" | "status" | "ip saddr" | "ip daddr";
        readonly dir?: "original";
      };
    }
  | { readonly fib: { readonly result: "type"; readonly flags: readonly ["daddr"] } }
  | { readonly rt: { readonly key: "mtu" } }
  | { readonly "tcp option": { readonly name: "maxseg"; readonly field: "size" } }
  | { readonly concat: readonly NftExpression[] }
  | { readonly set: readonly NftExpression[] }
  | { readonly range: readonly [string, string] }
  | { readonly "&": readonly [NftExpression, number] };

/** One step of a rule: what does not match ends it. */
export type NftStatement =
  | {
      readonly match: {
        readonly op: "==" | "!=" | "in";
        readonly left: NftExpression;
        readonly right: NftExpression | readonly string[];
      };
    }
  /** True beyond `val` connections (`inv`: "over"), counted by each rule for itself. */
  | { readonly "ct count": { readonly val: number; readonly inv: true } }
  | { readonly limit: NftLimit }
  | { readonly log: { readonly prefix: string; readonly group: number } }
  | { readonly mangle: { readonly key: NftExpression; readonly value: NftExpression } }
  | { readonly vmap: { readonly key: NftExpression; readonly data: string } }
  | { readonly reject: { readonly type: "tcp reset" } | { readonly type: "icmpx"; readonly expr: "admin-prohibited" } }
  | { readonly redirect: { readonly port: number } }
  | NftVerdict;

/** True up to the rate; `inv`: beyond it ("over"). Packets unless it says bytes. */
export interface NftLimit {
  readonly rate: number;
  readonly per: "second";
  readonly burst: number;
  readonly rate_unit?: "bytes";
  readonly burst_unit?: "bytes";
  readonly inv?: true;
}

/** What a rule ends with. */
export type NftVerdict =
  | { readonly accept: null }
  | { readonly drop: null }
  | { readonly masquerade: null }
  | { readonly jump: { readonly target: string } }
  | { readonly goto: { readonly target: string } };

interface InTable {
  readonly family: "inet" | "arp";
  readonly table: string;
}

/** A chain; one without a hook is only jumped to. */
export interface NftChain extends InTable {
  readonly name: string;
  readonly type?: "filter" | "nat";
  readonly hook?: "prerouting" | "input" | "forward" | "output" | "postrouting";
  readonly prio?: number;
  readonly policy?: "accept";
}

/** One rule. */
export interface NftRule extends InTable {
  readonly chain: string;
  readonly expr: readonly NftStatement[];
  readonly comment?: string;
}

/** Elements of a set, or of a verdict map as pairs. */
export interface NftElements extends InTable {
  readonly name: string;
  readonly elem: readonly (NftExpression | readonly [string, NftVerdict])[];
}

/** A set, or a map from its type to a verdict. */
export interface NftSet extends InTable {
  readonly name: string;
  readonly type: string | readonly string[];
  readonly flags?: readonly ["interval"];
}

type Named = InTable & { readonly name: string };
type Table = { readonly table: { readonly family: "inet" | "arp"; readonly name: string } };

/** One command. All commands of one run are one transaction: all or none of them is in force. */
export type NftCommand =
  | {
      readonly add:
        | Table
        | { readonly chain: NftChain }
        | { readonly set: NftSet }
        | { readonly map: NftSet & { readonly map: "verdict" } }
        | { readonly element: NftElements }
        | { readonly rule: NftRule };
    }
  /** Fails where there is one already. */
  | { readonly create: { readonly chain: NftChain } }
  | { readonly flush: { readonly chain: Named } | { readonly set: Named } }
  | { readonly delete: Table | { readonly chain: Named } | { readonly element: NftElements } };
