// `smolvm network ...` against a library that is made up.

import { expect, it, vi } from "vitest";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { NetworkDenial } from "../../index.js";
import { cli } from "../testing/cli.js";

const SIGNAL = { signal: expect.any(AbortSignal) };
const smtp: NetworkDenial = {
  at: "2026-11-24T12:00:00.000Z",
  protocol: "tcp",
  address: "93.184.216.34",
  port: 25,
  name: null,
  rule: "not-allowed",
  count: 3,
  allow: "93.184.216.34:25",
  message: "refused",
};
const name: NetworkDenial = { ...smtp, protocol: "dns", address: null, port: 53, name: "a.example", allow: null };
const web: NetworkDenial = { ...smtp, protocol: "tls", port: 443, name: "b.example", count: 1, allow: "b.example" };

function library(network: object = {}) {
  const fromId = async (vmId: string) => {
    if (vmId !== "box") throw new SmolVMError("VM_NOT_FOUND", `Cannot find VM "${vmId}"`);
    return { network };
  };
  return { sdk: { SmolVM: { fromId } } };
}

it("update is as silent as `env set`, and tells programs what it did", async () => {
  const update = vi.fn(async () => {});
  const setting = library({ update });
  expect(await cli("network update box --egress off", setting)).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  expect(update).toHaveBeenLastCalledWith("off", SIGNAL);
  const { json } = await cli("network update box --allow a.example --allow 10.0.0.0/8 --json", setting);
  const egress = { allow: ["a.example", "10.0.0.0/8"] };
  expect(json().data).toEqual({ vmId: "box", egress });
  expect(update).toHaveBeenLastCalledWith(egress, SIGNAL);
});

it("denials are a table, with the option that would permit each", async () => {
  const setting = library({ denials: async () => [smtp, name, web] });
  expect((await cli("network denials box", setting)).stdout.split("\n")).toEqual([
    "AT                        BY   TO                TIMES  RULE         PERMITTED BY",
    "2026-11-24T12:00:00.000Z  tcp  93.184.216.34:25  3      not-allowed  --allow 93.184.216.34:25",
    "2026-11-24T12:00:00.000Z  dns  a.example         3      not-allowed  -",
    "2026-11-24T12:00:00.000Z  tls  b.example:443     1      not-allowed  --allow b.example",
    "",
  ]);
  expect((await cli("network denials box --json", setting)).json().data).toEqual([smtp, name, web]);
});

it("no denials are a table without rows, as with other lists", async () => {
  const ended = await cli("network denials box", library({ denials: async () => [] }));
  expect(ended).toMatchObject({ exitCode: 0, stdout: "AT  BY  TO  TIMES  RULE  PERMITTED BY\n", stderr: "" });
});

it.each([
  ["network update box", 64, "--egress"],
  ["network update nope --egress off", 66, "Cannot find VM"],
  ["network denials nope", 66, "Cannot find VM"],
])("`%s` ends with %i", async (line, exitCode, text) => {
  const ended = await cli(line, library());
  expect(ended).toMatchObject({ exitCode, stdout: "", stderr: expect.stringContaining(text) });
});
