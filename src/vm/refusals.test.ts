import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../storage/testing/scratch-store.js";
import { readRefusals, refusalsPath } from "./refusals.js";
import { readVmLogs } from "./vm-logs.js";

const AT = Date.UTC(2026, 10, 24, 12);
const refused = {
  at: AT,
  protocol: "tcp",
  address: "93.184.216.34",
  port: 25,
  name: null,
  rule: "not-allowed",
  count: 1,
  allow: "93.184.216.34:25",
};

function written(...lines: readonly unknown[]): string {
  const directory = scratchDirectory();
  const texts = lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line)));
  writeFileSync(refusalsPath(directory), `${texts.join("\n")}\n`);
  return directory;
}

test("a refusal says what, where, why, and what would permit it", async () => {
  const directory = written(
    refused,
    {
      ...refused,
      protocol: "tls",
      name: "evil.example",
      port: 443,
      rule: "name-not-allowed",
      count: 3,
      allow: "evil.example:443",
    },
    { ...refused, protocol: "dns", address: null, name: "x.example", port: 53, rule: "off", allow: null },
  );
  const refusals = await readRefusals(directory);
  expect(refusals.map(({ message }) => message)).toEqual([
    'refused tcp to 93.184.216.34:25: no entry of allow covers it; egress.allow "93.184.216.34:25" would permit it',
    'refused tls to evil.example:443 (93.184.216.34), 3 times: no entry of allow covers the name; egress.allow "evil.example:443" would permit it',
    "refused dns to x.example: egress is off",
  ]);
  expect(refusals[0]).toMatchObject({ at: "2026-11-24T12:00:00.000Z", protocol: "tcp", port: 25, rule: "not-allowed" });
});

test("what is no record is skipped, and nothing is no refusal", async () => {
  const directory = written(
    "",
    "{",
    "7",
    { ...refused, at: 9e15 },
    { ...refused, port: 70_000 },
    { ...refused, protocol: "x" },
    refused,
  );
  expect(await readRefusals(directory)).toHaveLength(1);
  expect(await readRefusals(scratchDirectory())).toEqual([]);
});

test("a name moves no cursor", async () => {
  const [refusal] = await readRefusals(written({ ...refused, name: "a\u001b[2J\u202e\n.example" }));
  expect(refusal?.message).toContain("a\\u001b[2J\\u202e\\u000a.example:25");
});

test("the log shows them behind the console", async () => {
  const directory = written(refused);
  writeFileSync(join(directory, "console.log"), "boot\nlogin: ");
  const line = "smolvm: 2026-11-24T12:00:00.000Z network: refused tcp to 93.184.216.34:25";
  expect(await readVmLogs(directory)).toMatch(`boot\nlogin: \n${line}`);
  expect(await readVmLogs(directory, { source: "console" })).toBe("boot\nlogin: ");
  expect(await readVmLogs(directory, { source: "network" })).toMatch(new RegExp(`^${line}`));
  expect(await readVmLogs(directory, { tail: 1 })).toMatch(new RegExp(`^${line}`));
});
