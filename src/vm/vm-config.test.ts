import { describe, expect, test } from "vitest";
import { networkOf } from "./network-config.js";
import { checkConfig } from "./vm-config.js";

const LONGEST_PATH = `/${"p".repeat(4094)}`;
const ENV_LIMIT = 128 * 1024 - 1;
const many = <T>(count: number, make: (index: number) => T) => Array.from({ length: count }, (_, index) => make(index));
const shared = { diskMode: "shared", rootfsPath: "/disk" };

const PATHS = {
  good: ["a", "/a", "./ü b", LONGEST_PATH],
  bad: ["", "a\0b", `${LONGEST_PATH}x`, `/${"ü".repeat(2048)}`],
};
const FLAGS = { good: [true, false], bad: ["true", 1, 0] };

/** For each field: values at the edges of what is accepted, and just beyond. */
const FIELDS: Record<string, { readonly good: readonly unknown[]; readonly bad: readonly unknown[] }> = {
  vmId: {
    good: ["a", "0", "a1", "a-b_c", "a".repeat(64)],
    bad: ["", "A", "-a", "a-", "_a", "a_", "a.b", "a/b", "..", "a b", "a\n", "ü", "a".repeat(65)],
  },
  vcpuCount: { good: [1, 32], bad: [0, 33, -1, 1.5, "2", Number.NaN, Number.POSITIVE_INFINITY] },
  memSizeMib: { good: [128, 16_384], bad: [127, 16_385, 512.5, "512"] },
  image: {
    good: ["debian", "a", "a".repeat(128), "debian-12.1_x", "0".repeat(64)],
    bad: ["", "Debian", "../x", ".a", "a/b", "a".repeat(129), "a\n"],
  },
  diskMode: { good: ["isolated"], bad: ["Shared", "", "private"] },
  diskSizeMib: { good: [16, 1_048_576], bad: [15, 1_048_577, 16.5, "1024"] },
  kernelPath: PATHS,
  initrdPath: PATHS,
  rootfsPath: PATHS,
  bootArgs: { good: ["", "a=b c", "~ !", "x".repeat(1024)], bad: ["a\nb", "ü", "\x7f", "\t", "x".repeat(1025)] },
  backend: { good: ["auto", "qemu", "firecracker"], bad: ["", "QEMU", "xen"] },
  accel: { good: ["auto", "kvm", "hvf", "tcg"], bad: ["", "KVM"] },
  network: {
    good: [
      "none",
      "user",
      "tap",
      { mode: "none" },
      { mode: "user", egress: "open" },
      { mode: "user", egress: "off" },
      { mode: "user", egress: { allow: ["a"] } },
      { mode: "user", egress: { allow: many(1024, () => "a") } },
    ],
    bad: ["", "bridge", []],
  },
  ports: {
    good: [
      [],
      [{ guest: 1 }],
      [{ guest: 65_535, host: 0 }],
      [{ guest: 80, host: 65_535, hostAddress: "0.0.0.0" }],
      [{ guest: 80, host: 1024 }],
      many(64, () => ({ guest: 80 })),
    ],
    bad: [{}, "80", many(65, () => ({ guest: 80 }))],
  },
  envVars: {
    good: [{}, { A: "" }, { _a1: "x=y\n" }, { A: "x".repeat(ENV_LIMIT) }],
    bad: [[], "A=1", 5],
  },
  mounts: {
    good: [[], many(16, () => ({ hostPath: "/a", guestPath: "/b" }))],
    bad: [{}, many(17, () => ({ hostPath: "/a", guestPath: "/b" }))],
  },
  commChannel: { good: ["auto", "agent", "ssh"], bad: ["", "vsock"] },
  bootTimeoutMs: { good: [100, 600_000], bad: [99, 600_001, Number.POSITIVE_INFINITY, "1000"] },
  retainDiskOnDelete: FLAGS,
  stateDir: PATHS,
  lifetime: { good: ["persistent", "process"], bad: ["", "forever"] },
};

function refusal(config: unknown): { message: string; details: Record<string, unknown> } {
  try {
    checkConfig(config);
  } catch (error) {
    expect(error).toMatchObject({ code: "INVALID_CONFIG" });
    return error as never;
  }
  return expect.unreachable(`accepted: ${JSON.stringify(config)}`);
}

/** Words that only zod's own texts have. */
const ZOD_WORDS = /invalid|received|too (small|big)|must match|pattern|undefined|ZodError/i;

test("the table has every field", () => {
  expect(Object.keys(FIELDS).sort()).toEqual(Object.keys({ ...checkConfig({}), ...optional() }).sort());
});

function optional() {
  return { vmId: 0, diskSizeMib: 0, kernelPath: 0, initrdPath: 0, rootfsPath: 0, stateDir: 0 };
}

test.each([null, 7, "debian", []])("%j is no configuration", (config) => {
  expect(() => checkConfig(config)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
});

test("nothing given means the defaults", () => {
  const defaults = {
    vcpuCount: 2,
    memSizeMib: 512,
    image: "debian",
    diskMode: "isolated",
    bootArgs: "",
    backend: "auto",
    accel: "auto",
    network: "user",
    ports: [],
    envVars: {},
    mounts: [],
    commChannel: "auto",
    bootTimeoutMs: 60_000,
    retainDiskOnDelete: false,
    lifetime: "persistent",
  };
  for (const nothing of [undefined, {}, { vcpuCount: undefined, vmId: undefined }]) {
    expect(checkConfig(nothing)).toEqual(expect.objectContaining(defaults));
  }
});

describe.each(Object.entries(FIELDS))("%s", (field, { good, bad }) => {
  test("accepts both edges", () => {
    for (const value of good) expect(checkConfig({ [field]: value })).toMatchObject({ [field]: value });
  });

  test("refuses what is beyond them, and other types, by name and in words", () => {
    for (const value of [...bad, null, 5n, Symbol("s"), () => {}]) {
      const { details, message } = refusal({ [field]: value });
      expect([value, details["field"]]).toEqual([value, field]);
      expect(details["expected"]).not.toMatch(ZOD_WORDS);
      expect(String(details["expected"]).length).toBeGreaterThan(5);
      expect(message).toContain(`Invalid ${field}: got `);
    }
  });
});

describe("the text says what is accepted", () => {
  test.each([
    [{ vcpuCount: 0 }, "Invalid vcpuCount: got 0, expected a whole number from 1 to 32"],
    [{ vcpuCount: "2" }, 'Invalid vcpuCount: got "2", expected a whole number from 1 to 32'],
    [{ memSizeMib: Number.NaN }, "Invalid memSizeMib: got NaN, expected a whole number from 128 to 16384"],
    [{ accel: "KVM" }, 'Invalid accel: got "KVM", expected one of "auto", "kvm", "hvf", "tcg"'],
    [{ retainDiskOnDelete: "yes" }, 'Invalid retainDiskOnDelete: got "yes", expected true or false'],
    [
      { network: "bridge" },
      'Invalid network: got "bridge", expected "none", "user", "tap" or { mode, egress?, rateLimitMbps? }',
    ],
    [{ ports: [{ host: 80 }] }, "Invalid ports[0].guest: got nothing, expected a whole number from 1 to 65535"],
    [{ ports: 80 }, "Invalid ports: got 80, expected a list of at most 64 ports { guest, host?, hostAddress? }"],
    [{ ports: [80] }, "Invalid ports[0]: got 80, expected a port { guest, host?, hostAddress? }"],
    [5, "Invalid config: got 5, expected an object with the fields of VMConfig"],
  ])("%j", (config, message) => {
    expect(refusal(config).message).toBe(message);
  });
});

describe("nested fields", () => {
  test.each([
    [{ ports: [{ guest: 80 }, { guest: 0 }] }, "ports[1].guest"],
    [{ ports: [{ guest: 65_536 }] }, "ports[0].guest"],
    [{ ports: [{ guest: 80, host: -1 }] }, "ports[0].host"],
    [{ ports: [{ guest: 80, host: 65_536 }] }, "ports[0].host"],
    [{ ports: [{ guest: 80, host: 1023 }] }, "ports[0].host"],
    [{ ports: [{ guest: 80, hostAddress: "::1" }] }, "ports[0].hostAddress"],
    [{ ports: [{ guest: 80, hostAddress: "localhost" }] }, "ports[0].hostAddress"],
    [{ ports: [{ guest: 80, hostAddress: 5 }] }, "ports[0].hostAddress"],
    [{ ports: [{ guest: 80, hostAddress: "::1" }] }, "ports[0].hostAddress"],
    [{ ports: [{ guest: 80, protocol: "udp" }] }, "ports[0].protocol"],
    [{ network: { mode: "bridge" } }, "network.mode"],
    [{ network: {} }, "network.mode"],
    [{ network: { mode: "user", dns: "1.1.1.1" } }, "network.dns"],
    [{ network: { mode: "user", egress: "closed" } }, "network.egress"],
    [{ network: { mode: "user", egress: { allow: [] } } }, "network.egress.allow"],
    [{ network: { mode: "user", egress: { allow: [""] } } }, "network.egress.allow[0]"],
    [{ network: { mode: "tap", egress: { allow: ["a.example", "*"] } } }, "network.egress.allow[1]"],
    [{ network: { mode: "none", egress: "open" } }, "network.egress"],
    [{ network: { mode: "none", rateLimitMbps: 1 } }, "network.rateLimitMbps"],
    [{ network: { mode: "user", rateLimitMbps: 0 } }, "network.rateLimitMbps"],
    [{ network: { mode: "user", rateLimitMbps: 1.5 } }, "network.rateLimitMbps"],
    [{ network: { mode: "user", egress: { allow: many(1025, () => "a") } } }, "network.egress.allow"],
    [{ network: { mode: "user", egress: { allow: ["a"], deny: ["b"] } } }, "network.egress.deny"],
    [{ mounts: [{ hostPath: "", guestPath: "/b" }] }, "mounts[0].hostPath"],
    [{ mounts: [{ hostPath: "/a" }] }, "mounts[0].guestPath"],
    [{ mounts: [{ hostPath: "/a", guestPath: "/b", writable: "no" }] }, "mounts[0].writable"],
    [{ mounts: [{ hostPath: "/a", guestPath: "/b", readOnly: true }] }, "mounts[0].readOnly"],
    [{ cpus: 2 }, "cpus"],
    [{ vcpuCount: 2, constructor: 1 }, "constructor"],
  ])("%j", (config, field) => {
    const { details } = refusal(config);
    expect(details["field"]).toBe(field);
    expect(details["expected"]).not.toMatch(ZOD_WORDS);
  });
});

describe("the environment's values are never shown", () => {
  const secret = "s3cr3t";
  test.each([
    ["a name with a dash", { envVars: { "A-B": secret } }, "envVars"],
    ["a name that begins with a digit", { envVars: { "1A": secret } }, "envVars"],
    ["an empty name", { envVars: { "": secret } }, "envVars"],
    ["a value in the place of a name", { envVars: { [`API_KEY=${secret}`]: "" } }, "envVars"],
    ["the same with a value of the wrong kind", { envVars: { [`API_KEY=${secret}`]: 5 } }, "envVars"],
    ["a value with NUL", { envVars: { A: `${secret}\0` } }, "envVars.A"],
    ["a value that is too long", { envVars: { A: secret.repeat(ENV_LIMIT) } }, "envVars.A"],
    ["a value that is no text", { envVars: { A: [secret] } }, "envVars.A"],
    [
      "all of it too long",
      { envVars: Object.fromEntries(many(20, (index) => [`A${index}`, secret.repeat(20_000)])) },
      "envVars",
    ],
    ["a text", { envVars: `A=${secret}` }, "envVars"],
    ["a list", { envVars: [`A=${secret}`] }, "envVars"],
    ["the field misspelt", { env: { A: secret } }, "env"],
  ])("%s", (_what, config, field) => {
    const error = refusal(config);
    expect(error.details["field"]).toBe(field);
    expect(JSON.stringify(error.details) + error.message).not.toContain(secret);
    expect(error.details["expected"]).not.toMatch(ZOD_WORDS);
  });
});

describe("fields that do not go together", () => {
  test.each([
    [
      {
        ports: [
          { guest: 80, host: 8080 },
          { guest: 81, host: 8080 },
        ],
      },
      "ports",
    ],
    [{ diskMode: "shared" }, "diskMode"],
    [{ ...shared, diskSizeMib: 1024 }, "diskSizeMib"],
  ])("%j", (config, field) => {
    expect(refusal(config).details["field"]).toBe(field);
  });

  test.each([
    [{ network: "none", ports: [{ guest: 80 }] }],
    [{ network: "none", commChannel: "ssh" }],
    [{ network: "tap", commChannel: "ssh" }],
    [{ ports: [{ guest: 80, host: 0 }, { guest: 80, host: 0 }, { guest: 80 }, { guest: 80 }] }],
    [
      {
        ports: [
          { guest: 80, host: 8080, hostAddress: "127.0.0.1" },
          { guest: 80, host: 8080, hostAddress: "127.0.0.2" },
          { guest: 80, host: 8081, hostAddress: "0.0.0.0" },
        ],
      },
    ],
    [shared],
  ])("these do: %j", (config) => {
    expect(checkConfig(config)).toMatchObject(config);
  });
});

test("an address that is every address collides with each of them, in any order", () => {
  const every = { guest: 80, host: 8080, hostAddress: "0.0.0.0" };
  for (const one of [every, { guest: 81, host: 8080 }, { guest: 81, host: 8080, hostAddress: "127.0.0.2" }]) {
    for (const ports of [
      [every, one],
      [one, every],
    ]) {
      expect(refusal({ ports }).details["field"]).toBe("ports");
    }
  }
});

test("a network has a mode in both of its forms", () => {
  const open = { egress: "open", rateLimitMbps: undefined };
  expect(networkOf(checkConfig({ network: "none" }))).toEqual({ mode: "none", ...open });
  expect(networkOf(checkConfig({ network: { mode: "tap" } }))).toEqual({ mode: "tap", ...open });
  expect(networkOf(checkConfig({}))).toEqual({ mode: "user", ...open });
  const network = { mode: "tap" as const, egress: { allow: ["a.example"] }, rateLimitMbps: 20 };
  expect(networkOf(checkConfig({ network }))).toEqual(network);
});

test("the caller's object is not changed", () => {
  const config = Object.freeze({
    ports: Object.freeze([Object.freeze({ guest: 80 })]),
    envVars: Object.freeze({ A: "1" }),
  });
  expect(checkConfig(config)).toMatchObject(config);
});
