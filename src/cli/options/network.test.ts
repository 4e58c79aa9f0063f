import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { addNetworkOptions, networkConfig } from "./network.js";

function parsed(line: string) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addNetworkOptions(command);
  return networkConfig(command.parse(line === "" ? [] : line.split(" "), { from: "user" }).opts());
}

describe("options of a network", () => {
  it.each([
    ["", undefined],
    ["--network tap", "tap"],
    ["--egress off", { mode: "user", egress: "off" }],
    ["--network tap --rate-limit 20", { mode: "tap", rateLimitMbps: 20 }],
    [
      "--allow a.example --allow *.b.example:443",
      { mode: "user", egress: { allow: ["a.example", "*.b.example:443"] } },
    ],
  ])("%j", (line, network) => {
    expect(parsed(line)).toEqual(network);
  });

  it("refuse a list beside a word", () => {
    expect(() => parsed("--egress open --allow a.example")).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG" }),
    );
  });
});
