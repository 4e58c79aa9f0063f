// Firecracker's description of its own API, as data. scripts/firecracker-description.mjs makes the file.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { SmolVMError } from "../../../../errors/smolvm-error.js";

/** What is said about a value. */
export interface Schema {
  /** The name of another schema, which this one is. */
  readonly schema?: string;
  readonly type?: "object" | "array" | "string" | "integer" | "boolean";
  readonly format?: string;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: unknown;
  readonly readOnly?: boolean;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: boolean;
}

/** What is said about a request. */
export interface DescribedRequest {
  readonly body?: Schema;
  readonly bodyRequired?: boolean;
  /** Status code, or `default`, to the answer's body; `null` for none. */
  readonly answers: Readonly<Record<string, Schema | null>>;
}

/** Keys of `requests` are as `PUT /drives/{drive_id}`. */
export interface Description {
  readonly source: string;
  readonly version: string;
  readonly requests: Readonly<Record<string, DescribedRequest>>;
  readonly schemas: Readonly<Record<string, Schema>>;
}

const FILE = join(import.meta.dirname, "description-1.16.json");

export const DESCRIPTION = JSON.parse(readFileSync(FILE, "utf8")) as Description;

/** A request's name in the description, and the id in its path where it has one. */
export interface FoundRequest {
  readonly name: string;
  readonly described: DescribedRequest;
  readonly id: string | undefined;
}

/** @returns `undefined` for a request that is not in the description. */
export function findRequest(method: string, path: string): FoundRequest | undefined {
  for (const [name, described] of Object.entries(DESCRIPTION.requests)) {
    const pattern = name.replace(/\{[a-z_]+\}/, "([^/]*)");
    const match = new RegExp(`^${pattern}$`).exec(`${method} ${path}`);
    if (match !== null) return { name, described, id: match[1] };
  }
  return undefined;
}

/** The schema itself, with the name it has among the description's. */
export function resolveSchema(schema: Schema): { readonly name: string; readonly schema: Schema } {
  if (schema.schema === undefined) return { name: "", schema };
  const named = DESCRIPTION.schemas[schema.schema];
  if (named === undefined) throw new SmolVMError("INTERNAL", `No schema "${schema.schema}" in the description`);
  return { name: schema.schema, schema: named };
}
