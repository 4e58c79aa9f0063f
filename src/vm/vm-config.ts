// What a caller may ask for, checked field by field before anything happens.

import { isIP } from "node:net";
import { z } from "zod";
import { invalidConfig } from "../errors/invalid-config.js";

/** Ids of VMs. */
export const VM_ID_PATTERN = /^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$/;
const VM_ID_EXPECTED = "1 to 64 of a-z, 0-9, _ and -, beginning and ending with a letter or digit";
const ENV_KEY_PATTERN = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Linux takes at most 2048 bytes of kernel command line on x86 (COMMAND_LINE_SIZE); ours needs some of it. */
const BOOT_ARGS_LIMIT_BYTES = 1024;
/** Linux takes at most 128 KiB for one environment entry (MAX_ARG_STRLEN). */
const ENV_ENTRY_LIMIT_BYTES = 128 * 1024 - 1;
/** All environment entries together, in bytes; leaves room in Linux's limit for arguments. */
const ENV_LIMIT_BYTES = 1024 * 1024;
const PORTS_LIMIT = 64;
const PATH_LIMIT_BYTES = 4095; // PATH_MAX of Linux, without the final NUL.

const port = z.int().min(1).max(65_535);
const hasNoNul = (text: string) => !text.includes("\0");
const path = z
  .string()
  .min(1)
  .refine((text) => hasNoNul(text) && Buffer.byteLength(text) <= PATH_LIMIT_BYTES, "a path without NUL");

const egress = z.union([
  z.enum(["open", "off"]),
  z.strictObject({ allow: z.array(z.string().min(1)).min(1).max(1024) }).readonly(),
]);
const networkMode = z.enum(["none", "user", "tap"]);
const network = z.union([networkMode, z.strictObject({ mode: networkMode, egress: egress.optional() }).readonly()]);

const ports = z
  .array(
    z
      .strictObject({
        guest: port,
        host: z.int().min(0).max(65_535).optional(),
        hostAddress: z
          .string()
          .refine((text) => isIP(text) !== 0, "an IP address")
          .optional(),
      })
      .readonly(),
  )
  .max(PORTS_LIMIT)
  .readonly();

const mounts = z
  .array(z.strictObject({ hostPath: path, guestPath: path, writable: z.boolean().optional() }).readonly())
  .max(16)
  .readonly();

const envVars = z
  .record(
    z.string().regex(ENV_KEY_PATTERN, "a name of letters, digits and _, not beginning with a digit"),
    z
      .string()
      .refine(hasNoNul, "a text without NUL")
      .refine((text) => Buffer.byteLength(text) <= ENV_ENTRY_LIMIT_BYTES, `at most ${ENV_ENTRY_LIMIT_BYTES} bytes`),
  )
  .readonly()
  .refine(
    (entries) => Buffer.byteLength(JSON.stringify(entries)) <= ENV_LIMIT_BYTES,
    `at most ${ENV_LIMIT_BYTES} bytes altogether`,
  );

const schema = z
  .strictObject({
    vmId: z.string().regex(VM_ID_PATTERN, VM_ID_EXPECTED).optional(),
    vcpuCount: z.int().min(1).max(32).default(2),
    memSizeMib: z.int().min(128).max(16_384).default(512),
    image: z
      .string()
      .regex(/^[a-z0-9][a-z0-9._-]{0,127}$/, "the name or digest of an image")
      .default("debian"),
    diskMode: z.enum(["isolated", "shared"]).default("isolated"),
    diskSizeMib: z
      .int()
      .min(16)
      .max(1024 * 1024)
      .optional(),
    kernelPath: path.optional(),
    initrdPath: path.optional(),
    rootfsPath: path.optional(),
    bootArgs: z
      .string()
      .regex(/^[\x20-\x7e]*$/, "printable ASCII on one line")
      .max(BOOT_ARGS_LIMIT_BYTES)
      .default(""),
    backend: z.enum(["auto", "qemu", "firecracker"]).default("auto"),
    accel: z.enum(["auto", "kvm", "hvf", "tcg"]).default("auto"),
    network: network.default("user"),
    ports: ports.default([]),
    envVars: envVars.default({}),
    mounts: mounts.default([]),
    commChannel: z.enum(["auto", "agent", "ssh"]).default("auto"),
    bootTimeoutMs: z.int().min(100).max(600_000).default(60_000),
    retainDiskOnDelete: z.boolean().default(false),
    stateDir: path.optional(),
    lifetime: z.enum(["persistent", "process"]).default("persistent"),
  })
  .readonly();

/**
 * What a VM is to be. Every field is optional.
 *
 * - `vmId`: `^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`, default `vm-` and 8 hexadecimal digits
 * - `vcpuCount`: 1 to 32, default 2; `memSizeMib`: 128 to 16384, default 512
 * - `image`: name or digest, default `"debian"`; `kernelPath`, `initrdPath`, `rootfsPath` replace parts of it
 * - `diskMode`: `"isolated"` (default: writes go to a private layer) or `"shared"` (boots `rootfsPath` itself)
 * - `diskSizeMib`: 16 to 1048576, default the image's own size
 * - `bootArgs`: added to the kernel command line, at most 1024 printable ASCII characters
 * - `backend`: `"auto"`, `"qemu"`; `accel`: `"auto"`, `"kvm"`, `"hvf"`, `"tcg"`
 * - `network`: `"user"` (default), `"none"`; `ports`: `[{ guest, host?, hostAddress? }]`
 * - `envVars`: environment of every command; never stored in the database
 * - `bootTimeoutMs`: 100 to 600000 for each of two attempts, default 60000
 * - `retainDiskOnDelete`: keep the private layer when the VM is deleted, default false
 * - `stateDir`: default `SMOLVM_STATE_DIR` or `~/.local/state/smolvm`
 * - `lifetime`: `"persistent"` (default) or `"process"`: deleted by the next reconcile once this program has ended
 */
export type VMConfig = z.input<typeof schema>;

/** A checked configuration with its defaults filled in. */
export type CheckedConfig = z.output<typeof schema>;

/**
 * Checks a configuration; no side effect.
 *
 * @throws {INVALID_CONFIG} naming the first field that is wrong.
 */
export function checkConfig(config: unknown): CheckedConfig {
  const parsed = schema.safeParse(config ?? {});
  if (!parsed.success) throw refusal(parsed.error.issues, config);
  const checked = parsed.data;
  if (checked.ports.length > 0 && networkModeOf(checked) === "none") {
    throw invalidConfig({ field: "ports", value: checked.ports, expected: 'no ports with network "none"' });
  }
  const duplicate = firstDuplicate(checked.ports.flatMap(({ host }) => (host ? [host] : [])));
  if (duplicate !== undefined) {
    throw invalidConfig({ field: "ports", value: duplicate, expected: "each host port once" });
  }
  if (checked.diskMode === "shared" && checked.rootfsPath === undefined) {
    const expected = 'a rootfsPath of your own with diskMode "shared": images are never written to';
    throw invalidConfig({ field: "diskMode", value: "shared", expected });
  }
  if (checked.diskMode === "shared" && checked.diskSizeMib !== undefined) {
    const expected = 'nothing with diskMode "shared": the disk is used as it is';
    throw invalidConfig({ field: "diskSizeMib", value: checked.diskSizeMib, expected });
  }
  return checked;
}

/** The mode of a network, in whichever of its two forms it was given. */
export function networkModeOf({ network }: Pick<CheckedConfig, "network">): "none" | "user" | "tap" {
  return typeof network === "string" ? network : network.mode;
}

function firstDuplicate(values: readonly number[]): number | undefined {
  return values.find((value, index) => values.indexOf(value) !== index);
}

function refusal(issues: readonly z.core.$ZodIssue[], config: unknown): Error {
  const issue = issues[0];
  if (issue === undefined) return invalidConfig({ field: "config", value: config, expected: "a VMConfig" });
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0] ?? "";
    const field = fieldName([...issue.path, key]);
    return invalidConfig({ field, value: valueAt(config, [...issue.path, key]), expected: "no field of this name" });
  }
  const field = fieldName(issue.path) || "config";
  const value = isSecret(issue.path) ? "(hidden)" : valueAt(config, issue.path);
  return invalidConfig({ field, value, expected: expectation(issue) });
}

/** In words what zod wanted. */
function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return `a value of type ${issue.expected}`;
    case "too_small":
      return `at least ${issue.minimum}${issue.origin === "string" ? " characters" : ""}`;
    case "too_big":
      return `at most ${issue.maximum}${issue.origin === "string" ? " characters" : ""}`;
    case "invalid_value":
      return `one of ${issue.values.map((value) => JSON.stringify(value)).join(", ")}`;
    case "invalid_union":
      return "one of the forms that the documentation names";
    default:
      return issue.message;
  }
}

function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, part) => {
    if (typeof part === "number") return `${name}[${part}]`;
    return name === "" ? String(part) : `${name}.${String(part)}`;
  }, "");
}

function valueAt(config: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) =>
      value === null || value === undefined ? undefined : (value as Record<PropertyKey, unknown>)[part],
    config,
  );
}

/** Values of environment variables are never shown. */
function isSecret(path: readonly PropertyKey[]): boolean {
  return path[0] === "envVars" && path.length > 1;
}
