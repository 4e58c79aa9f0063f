import { describe, expect, test } from "vitest";
import { checkRestoreConfig } from "./restore-config.js";
import { fakeContext, specOf } from "./testing/fake-context.js";

const online = () => specOf(fakeContext(), "a1", { networkMode: "user", bootArgs: "quiet" });
const offline = () => specOf(fakeContext(), "a1");

const OPEN = { egress: "open", rateLimitMbps: undefined };

const field = (name: string) => expect.objectContaining({ details: expect.objectContaining({ field: name }) });

test("nothing given: the snapshot decides", () => {
  const nothing = { vmId: undefined, ports: [], envVars: {}, retainDiskOnDelete: false, lifetime: "persistent" };
  for (const config of [undefined, {}, { bootTimeoutMs: undefined, vcpuCount: undefined }]) {
    expect(checkRestoreConfig(config, offline())).toEqual({
      ...nothing,
      bootTimeoutMs: undefined,
      network: { mode: "none", ...OPEN },
    });
  }
});

test("what is not part of the machine is taken", () => {
  const config = {
    vmId: "b2",
    ports: [{ guest: 80 }],
    envVars: { A: "1" },
    bootTimeoutMs: 5_000,
    retainDiskOnDelete: true,
    lifetime: "process",
  };
  expect(checkRestoreConfig({ ports: config.ports }, offline()).ports).toEqual(config.ports);
  expect(checkRestoreConfig({ ...config, stateDir: "/elsewhere" }, online())).toEqual({
    ...config,
    network: { mode: "user", ...OPEN },
  });
});

test("fields of the machine may say what the snapshot says", () => {
  const config = {
    vcpuCount: 2,
    memSizeMib: 512,
    image: "debian",
    diskMode: "isolated",
    bootArgs: "quiet",
    backend: "qemu",
    accel: "tcg",
  };
  for (const network of ["user", { mode: "user" }, { mode: "user", egress: "open" }]) {
    expect(() => checkRestoreConfig({ ...config, network }, online())).not.toThrow();
  }
});

describe("refused by its field", () => {
  test.each([
    ["vcpuCount", 4],
    ["memSizeMib", 1024],
    ["image", "alpine"],
    ["diskSizeMib", 1024],
    ["kernelPath", "/k"],
    ["initrdPath", "/i"],
    ["rootfsPath", "/r"],
    ["bootArgs", ""],
    ["accel", "kvm"],
    ["network", "none"],
    ["network", { mode: "none" }],
    // Of the configuration itself.
    ["vmId", "../x"],
    ["vcpuCount", 0],
    ["colour", "blue"],
  ])("%s: %j", (name, value) => {
    expect(() => checkRestoreConfig({ [name]: value }, online())).toThrow(field(name));
    expect(() => checkRestoreConfig({ [name]: value }, online())).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG" }),
    );
  });

  test("an image, where the snapshot is of the user's own files", () => {
    expect(() => checkRestoreConfig({ image: "debian" }, { ...online(), image: null })).toThrow(field("image"));
  });

  test.each([null, 7, "x", []])("%j is no configuration", (config) => {
    expect(() => checkRestoreConfig(config, online())).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
  });
});

test("an egress policy of its own is taken, the snapshot's is kept otherwise", () => {
  const egress = { allow: ["api.example.com"] };
  expect(checkRestoreConfig({ network: { mode: "user", egress } }, online()).network).toMatchObject({ egress });
  const closed = { ...online(), egress: "off" as const, rateLimitMbps: 5 };
  for (const network of [undefined, "user", { mode: "user" }]) {
    expect(checkRestoreConfig({ network }, closed).network).toEqual({ mode: "user", egress: "off", rateLimitMbps: 5 });
  }
  expect(checkRestoreConfig({ network: { mode: "user", rateLimitMbps: 50 } }, closed).network).toMatchObject({
    egress: "off",
    rateLimitMbps: 50,
  });
  expect(checkRestoreConfig({ network: { mode: "user", egress } }, closed).network.rateLimitMbps).toBe(5);
});
