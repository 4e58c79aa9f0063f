import { describe, expect, test } from "vitest";
import { HOST_PACKAGES, parseGoVersion } from "./packages.js";
import { planSetup, type SetupPlanOptions } from "./setup-plan.js";

const bareDebian: SetupPlanOptions = {
  platform: "linux",
  architecture: "x86_64",
  hasProgram: (name) => name === "apt-get",
  hasFile: () => false,
  goVersion: async () => undefined,
};

const names = async (options: SetupPlanOptions) => (await planSetup(options)).missing.map(({ name }) => name);

describe("a host with nothing but apt", () => {
  test("lacks every package that running needs, and Go only for building", async () => {
    const forRunning = HOST_PACKAGES.filter((entry) => entry.onlyForBuilding !== true);
    expect(await names(bareDebian)).toEqual(forRunning.map((entry) => entry.apt.x86_64));
    expect(await names({ ...bareDebian, forBuilding: true })).toContain("golang-go");
  });

  test("gets two commands: update, install", async () => {
    const { packageManager, commands } = await planSetup(bareDebian);
    expect(packageManager).toBe("apt");
    expect(commands.map((argv) => argv.includes("update"))).toEqual([true, false]);
    expect(commands[1]).toContain("qemu-system-x86");
  });

  test("on arm64 takes the other QEMU package", async () => {
    expect(await names({ ...bareDebian, architecture: "aarch64" })).toContain("qemu-system-arm");
  });
});

test("what is there already, whoever brought it, is not installed again", async () => {
  const complete = { ...bareDebian, hasProgram: () => true, hasFile: () => true };
  expect(await planSetup(complete)).toEqual({ packageManager: "apt", missing: [], commands: [] });
});

test("both programs of uidmap must be there", async () => {
  const half = { ...bareDebian, hasProgram: (name: string) => name !== "newgidmap", hasFile: () => true };
  expect(await names(half)).toEqual(["uidmap"]);
});

test.each([
  ["go version go1.17.13 linux/amd64", ["golang-go"]],
  ["go version go1.19.8 linux/amd64", []],
  ["something else", ["golang-go"]],
])("Go: %s", async (text, expected) => {
  const options = { ...bareDebian, hasProgram: () => true, hasFile: () => true, goVersion: async () => text };
  expect(await names({ ...options, forBuilding: true })).toEqual(expected);
});

test("macOS gets a brew line, or none where there is no brew", async () => {
  const mac: SetupPlanOptions = { ...bareDebian, platform: "darwin", hasProgram: (name) => name === "brew" };
  expect((await planSetup(mac)).commands).toEqual([["brew", "install", "qemu"]]);
  const bare = await planSetup({ ...mac, hasProgram: () => false });
  expect(bare).toMatchObject({ packageManager: "none", commands: [], missing: [{ name: "qemu" }] });
});

test("Go versions are read from releases and development builds", () => {
  expect(parseGoVersion("go version go1.26.8 linux/amd64")).toEqual([1, 26]);
  expect(parseGoVersion("go version devel go1.27-abc Mon linux/arm64")).toEqual([1, 27]);
  expect(parseGoVersion("")).toBeUndefined();
});
