// Takes the facts out of Firecracker's description of its API (a YAML file, by default the one that findDescription
// finds) and writes them as JSON for the tests: names, types, bounds, status codes; no prose.
// `--check` changes nothing: exit code 1 and the first difference when the facts are not the description's, exit code 2
// when there is no description here.

import { readFileSync, writeFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { exitWith, mustRun, nodeProgram, Stop } from "./lib/child.mjs";
import { FACTS_FILE, FACTS_VERSION, findDescription } from "./lib/firecracker-description.mjs";

/** Keys of a schema that are facts, and are kept as they are. */
const FACTS = ["type", "format", "enum", "required", "minimum", "maximum", "default", "readOnly"];
/** Keys that are prose. Any other key is one that this script does not understand. */
const PROSE = ["description", "example"];
const METHODS = ["get", "put", "patch", "post", "delete"];

const isCheck = process.argv.includes("--check");
const source = process.argv.slice(2).find((argument) => !argument.startsWith("--")) ?? findDescription();

try {
  if (source === undefined) {
    console.log(`no description of Firecracker ${FACTS_VERSION} here; SMOLVM_FIRECRACKER_API may name one`);
    process.exitCode = 2;
  } else {
    const { parse } = await import("yaml");
    const facts = factsOf(parse(readFileSync(source, "utf8")));
    if (isCheck) check(facts, JSON.parse(readFileSync(FACTS_FILE, "utf8")), "facts");
    else await write(facts);
  }
} catch (error) {
  exitWith(error);
}

function factsOf({ info, paths, definitions }) {
  if (info.version !== FACTS_VERSION) throw new Stop(`${source} is of ${info.version}, not of ${FACTS_VERSION}`);
  return {
    source: `Firecracker v${info.version}, src/firecracker/swagger/firecracker.yaml (Apache-2.0): facts, no prose`,
    version: info.version,
    requests: Object.fromEntries(Object.entries(paths).flatMap(([path, methods]) => requestsOf(path, methods))),
    schemas: mapValues(definitions, (schema) => schemaOf(schema)),
  };
}

function requestsOf(path, methods) {
  return Object.entries(methods).map(([method, { parameters = [], responses, ...rest }]) => {
    const name = `${method.toUpperCase()} ${path}`;
    expectKeys(name, rest, ["summary", "description", "operationId"]);
    if (!METHODS.includes(method)) throw new Stop(`${name}: unknown method`);
    const body = parameters.find((parameter) => parameter.in === "body");
    return [
      name,
      {
        ...(body === undefined ? {} : { body: schemaOf(body.schema), bodyRequired: body.required ?? false }),
        answers: mapValues(responses, ({ schema }) => (schema === undefined ? null : schemaOf(schema))),
      },
    ];
  });
}

function schemaOf({ $ref, properties, items, additionalProperties, ...rest }) {
  expectKeys(JSON.stringify(rest), rest, [...FACTS, ...PROSE]);
  return {
    ...($ref === undefined ? {} : { schema: $ref.replace("#/definitions/", "") }),
    ...Object.fromEntries(Object.entries(rest).filter(([key]) => FACTS.includes(key))),
    ...(additionalProperties === undefined ? {} : { additionalProperties }),
    ...(items === undefined ? {} : { items: schemaOf(items) }),
    ...(properties === undefined ? {} : { properties: mapValues(properties, (property) => schemaOf(property)) }),
  };
}

function expectKeys(what, object, known) {
  const unknown = Object.keys(object).filter((key) => !known.includes(key));
  if (unknown.length > 0) throw new Stop(`${what}: unknown ${unknown.join(", ")}`);
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

/** Finds the first place where two trees differ. */
function check(expected, actual, place) {
  if (isDeepStrictEqual(expected, actual)) return;
  const isTree = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isTree(expected) || !isTree(actual)) {
    throw new Stop(`${place} is ${JSON.stringify(actual)}, the description says ${JSON.stringify(expected)}`);
  }
  for (const key of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    check(expected[key], actual[key], `${place} / ${key}`);
  }
}

async function write(facts) {
  writeFileSync(FACTS_FILE, JSON.stringify(facts));
  await mustRun(nodeProgram("@biomejs/biome/bin/biome", "format", "--write", FACTS_FILE));
}
