// Whether a body is as the description, and what is known beyond it, want it.

import { SmolVMError } from "../../../../errors/smolvm-error.js";
import { resolveSchema, type Schema } from "./description.js";
import { BOUNDS } from "./rules.js";

/** @returns What is wrong with the value, or `undefined`. */
export function faultOf(value: unknown, of: Schema, place = "body"): string | undefined {
  const { name, schema } = resolveSchema(of);
  switch (schema.type) {
    case "object":
      return faultOfObject(value, name, schema, place);
    case "array":
      if (!Array.isArray(value)) return `${place} is not an array`;
      return firstFault(value.map((item, index) => faultOf(item, schema.items ?? {}, `${place}[${index}]`)));
    case "integer":
      return faultOfInteger(value, schema, place);
    case "string":
    case "boolean":
      if (typeof value !== schema.type) return `${place} is not a ${schema.type}`;
      if (schema.enum?.includes(value as string) === false) return `${place} is not one of ${schema.enum.join(", ")}`;
      return undefined;
    default:
      throw new SmolVMError("INTERNAL", `The description gives ${place} no type`);
  }
}

function faultOfObject(value: unknown, name: string, schema: Schema, place: string): string | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return `${place} is not an object`;
  const properties = schema.properties ?? {};
  const missing = schema.required?.find((key) => !(key in value));
  if (missing !== undefined) return `${place} lacks ${missing}`;
  return firstFault(
    Object.entries(value).map(([key, item]) => {
      const property = properties[key];
      if (property === undefined) return schema.additionalProperties ? undefined : `${place} has an unknown ${key}`;
      return faultOf(item, { ...property, ...BOUNDS[`${name}.${key}`] }, `${place}.${key}`);
    }),
  );
}

function faultOfInteger(value: unknown, { minimum = 0, maximum }: Schema, place: string): string | undefined {
  if (typeof value !== "number" || !Number.isInteger(value)) return `${place} is not an integer`;
  if (value < minimum) return `${place} is below ${minimum}`;
  if (maximum !== undefined && value > maximum) return `${place} is above ${maximum}`;
  return undefined;
}

function firstFault(faults: readonly (string | undefined)[]): string | undefined {
  return faults.find((fault) => fault !== undefined);
}
