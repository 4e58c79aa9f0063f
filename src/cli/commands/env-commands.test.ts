import { expect, test } from "vitest";
import { cli } from "../testing/cli.js";

const values = new Map<string, string>();
const env = {
  set: async (given: Record<string, string>) => {
    for (const [name, value] of Object.entries(given)) values.set(name, value);
  },
  unset: async (names: string[]) => {
    for (const name of names) values.delete(name);
  },
  list: async () => Object.fromEntries(values),
};
const sdk = { SmolVM: { fromId: async () => ({ env }) } };

test("variables are set, listed so that a shell can read them, and removed", async () => {
  const set = await cli(["env", "set", "box", "A=1", "B=two words", "C=it's\ntwo lines", "D"], {
    sdk,
    env: { D: "own" },
  });
  expect([set.exitCode, set.stdout]).toEqual([0, ""]);
  const listed = await cli("env list box", { sdk });
  expect(listed.stdout).toBe("A=1\nB='two words'\nC='it'\\''s\ntwo lines'\nD=own\n");
  expect((await cli("env list box --json", { sdk })).json().data).toEqual(Object.fromEntries(values));
  expect((await cli("env unset box A B C", { sdk })).exitCode).toBe(0);
  expect((await cli("env list box", { sdk })).stdout).toBe("D=own\n");
});

test.each(["env set box", "env set box NOT_SET_HERE", "env set box =x", "env unset box", "env set"])(
  "`%s` is refused",
  async (line) => {
    const { exitCode, stderr } = await cli(line, { sdk });
    expect(exitCode).toBe(64);
    expect(stderr).not.toBe("");
  },
);
