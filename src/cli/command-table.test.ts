import { describe, expect, it } from "vitest";
import { asksForJson, COMMANDS, commandName, wantedCommands } from "./command-table.js";

const words = (line: string) => line.split(" ").filter((word) => word !== "");

describe("the table of commands", () => {
  it.each([
    ["run --id a -- ls --json", false],
    ["run --json -- ls", true],
    ["--json list", true],
    ["list", false],
  ])("finds --json in %j", (line, expected) => {
    expect(asksForJson(words(line))).toBe(expected);
  });

  it.each([
    ["list --json", "list"],
    ["--json image build", "image build"],
    ["image", "image"],
    ["image nope", "image"],
    ["run -- list", "run"],
    ["nope", "smolvm"],
    ["-- list", "smolvm"],
    ["", "smolvm"],
  ])("names the command of %j", (line, expected) => {
    expect(commandName(words(line))).toBe(expected);
  });

  it("loads only what a command line may mean", () => {
    const paths = (line: string) => wantedCommands(words(line)).map(({ path }) => path);
    expect(paths("run -- ls")).toEqual(["run"]);
    expect(paths("image rm x")).toEqual(["image rm"]);
    expect(paths("image --help")).toHaveLength(5);
    expect(paths("--help")).toEqual([]);
    expect(paths("help run")).toHaveLength(COMMANDS.length);
  });
});
