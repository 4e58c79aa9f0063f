import { describe, expect, it } from "vitest";
import { COMMANDS } from "../command-table.js";
import { buildProgram } from "../program.js";
import { bashScript } from "./bash.js";
import { allNodes, commandTree } from "./command-tree.js";
import { fishScript } from "./fish.js";
import { zshScript } from "./zsh.js";

const program = await buildProgram({ wanted: COMMANDS, perform: async () => {}, writeOut: () => {} });
const root = commandTree(program);
const nodes = allNodes(root);
const node = (path: string) => nodes.find((candidate) => candidate.path.join(" ") === path);

describe("commandTree", () => {
  it("holds every command of the table", () => {
    const paths = nodes.map(({ path }) => path.join(" "));
    expect(paths).toEqual(expect.arrayContaining(COMMANDS.map(({ path }) => path)));
  });

  it("knows what options and arguments take", () => {
    const option = (path: string, flag: string) => node(path)?.options.find(({ flags }) => flags.includes(flag));
    expect(option("run", "--network")?.value).toEqual({ kind: "words", words: ["none", "user", "tap"] });
    expect(option("run", "--image")?.value).toEqual({ kind: "images" });
    expect(option("create", "--kernel")?.value).toEqual({ kind: "files" });
    expect(option("create", "--memory")?.value).toEqual({ kind: "none" });
    expect(option("create", "--no-start")?.value).toBeUndefined();
    expect(option("list", "--json")).toBeDefined();
    expect(node("exec")?.argument).toEqual({ kind: "vms" });
    expect(node("image rm")?.argument).toEqual({ kind: "images" });
    expect(node("completion")?.argument).toEqual({ kind: "words", words: ["bash", "zsh", "fish"] });
    expect(node("image")?.children).toHaveLength(5);
    expect(option("fork", "-n")?.value).toEqual({ kind: "none" });
    expect(node("fork")?.argument).toEqual({ kind: "vms" });
    expect(node("snapshot create")?.argument).toEqual({ kind: "vms" });
    expect(node("snapshot restore")?.argument).toEqual({ kind: "snapshots" });
    expect(node("snapshot delete")?.argument).toEqual({ kind: "snapshots" });
  });
});

describe.each([
  ["bash", bashScript],
  ["zsh", zshScript],
  ["fish", fishScript],
])("the script for %s", (_shell, scriptOf) => {
  it("mentions every command and asks for VMs, snapshots and images when they are needed", () => {
    const script = scriptOf(root);
    for (const { path } of COMMANDS) expect(script).toContain(path.split(" ").at(-1));
    for (const asked of [" list -q", " snapshot list -q", " image list -q"]) {
      expect(script).toMatch(new RegExp(`(smolvm|words\\[1\\]|COMP_WORDS\\[0\\]}")${asked} 2>`));
    }
    expect(script).not.toContain("undefined");
  });
});
