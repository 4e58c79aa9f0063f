// The completion script in a real bash. No VM boots here.

import { afterAll, describe, expect, it } from "vitest";
import { CliProgram } from "./cli-program.js";

const cli = new CliProgram();
afterAll(() => cli[Symbol.dispose]());

/** What bash offers for the last of some words, each on a line. */
async function complete(...words: readonly string[]): Promise<readonly string[]> {
  const quoted = words.map((word) => `'${word}'`).join(" ");
  const { stdout, stderr } = await cli.bash(`
    set -u
    source <(smolvm completion bash)
    COMP_WORDS=(smolvm ${quoted})
    COMP_CWORD=${words.length}
    _smolvm
    [[ \${#COMPREPLY[@]} -eq 0 ]] || printf '%s\\n' "\${COMPREPLY[@]}"
    complete -p smolvm >&2`);
  expect(stderr).toBe("complete -o default -F _smolvm smolvm\n");
  return stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "");
}

describe("completion in bash", () => {
  it("offers commands, options, choices and ids", async () => {
    expect(await cli.run(["create", "--no-start", "--id", "box", "--network", "none"])).toMatchObject({ exitCode: 0 });
    expect(await complete("re")).toEqual(["resume", "reconcile"]);
    expect(await complete("image", "")).toEqual(["build", "list", "inspect", "rm", "prune"]);
    expect(await complete("run", "--mem")).toEqual(["--memory"]);
    expect(await complete("run", "--network", "")).toEqual(["none", "user", "tap"]);
    expect(await complete("--json", "completion", "z")).toEqual(["zsh"]);
    expect(await complete("exec", "b")).toEqual(["box"]);
    expect(await complete("image", "rm", "deb")).toEqual(["debian"]);
    expect(await complete("exec", "box", "--", "b")).toEqual([]);
    expect(await complete("run", "--memory", "")).toEqual([]);
    expect((await cli.run(["delete", "box"])).exitCode).toBe(0);
  });
});
