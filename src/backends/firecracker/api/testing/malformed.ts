// All the ways in which a body can differ from its description by one thing.

import { findRequest, resolveSchema, type Schema } from "./description.js";
import { BOUNDS, OPEN_SCHEMAS } from "./rules.js";
import type { WireRequest } from "./send.js";

export interface Malformed {
  /** What is wrong, for the test's name. */
  readonly what: string;
  readonly request: WireRequest;
  /** Firecracker takes it all the same, though its description does not know of it: see differences.ts. */
  readonly isTakenByFirecracker: boolean;
}

/** Something that differs at one place: the place, and what is there instead. */
interface Change {
  readonly what: string;
  readonly value: unknown;
  readonly isTaken?: boolean;
}

/** @param request One that is well formed and has all that its body can have. */
export function malformedOf(request: WireRequest): readonly Malformed[] {
  const schema = findRequest(request.method, request.path)?.described.body;
  if (schema === undefined) {
    return [{ what: "a body", request: { ...request, body: {} }, isTakenByFirecracker: false }];
  }
  const { body, ...bare } = request;
  const changes = changesOf(body, schema, "body");
  return [
    { what: "no body", request: bare, isTakenByFirecracker: false },
    { what: "no JSON", request: { ...bare, body: "{" }, isTakenByFirecracker: false },
    ...changes.map(({ what, value, isTaken = false }) => ({
      what,
      request: { ...bare, body: value },
      isTakenByFirecracker: isTaken,
    })),
  ];
}

function changesOf(value: unknown, of: Schema, place: string): readonly Change[] {
  const { name, schema } = resolveSchema(of);
  const bad = (what: string, wrong: unknown): Change => ({ what: `${place}: ${what}`, value: wrong });
  switch (schema.type) {
    case "object":
      return [bad("text", "text"), ...changesOfObject(value as Record<string, unknown>, name, schema, place)];
    case "array":
      return [
        bad("an object", { x: 1 }),
        ...changesOf((value as unknown[])[0], schema.items ?? {}, `${place}[0]`).map((change) => ({
          ...change,
          value: [change.value],
        })),
      ];
    case "integer":
      return [
        bad("text", "5"),
        bad("a fraction", 1.5),
        bad("negative", -1),
        ...(schema.maximum === undefined ? [] : [bad("too large", schema.maximum + 1)]),
        // The one bound that Firecracker does not know.
        ...(schema.minimum === undefined || schema.minimum === 0
          ? []
          : [{ ...bad("too small", schema.minimum - 1), isTaken: place.endsWith(".guest_cid") }]),
      ];
    case "boolean":
      return [bad("text", "true"), bad("a number", 1)];
    default:
      return [bad("a number", 5), ...(schema.enum === undefined ? [] : [bad("no such word", "no-such-word")])];
  }
}

function changesOfObject(
  value: Record<string, unknown>,
  name: string,
  { properties = {}, required = [] }: Schema,
  place: string,
): readonly Change[] {
  const without = (key: string) => Object.fromEntries(Object.entries(value).filter(([other]) => other !== key));
  return [
    {
      what: `${place}: an unknown property`,
      value: { ...value, no_such_property: 1 },
      isTaken: OPEN_SCHEMAS.includes(name),
    },
    ...required.map((key) => ({ what: `${place}: no ${key}`, value: without(key) })),
    ...Object.entries(value).flatMap(([key, item]) =>
      changesOf(item, { ...properties[key], ...BOUNDS[`${name}.${key}`] }, `${place}.${key}`).map((change) => ({
        ...change,
        value: { ...value, [key]: change.value },
      })),
    ),
  ];
}
