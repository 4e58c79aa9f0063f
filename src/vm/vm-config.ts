// What a caller may ask for, checked field by field before anything happens.

import { z } from "zod";
import { BACKEND_NAMES } from "../backends/registry.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { checkNetwork, networkSchema } from "./network-config.js";
import {
  DEFAULT_HOST_ADDRESS,
  guestPortSchema,
  hostAddressSchema,
  hostPortSchema,
  PORTS_LIMIT,
} from "./ports/port-options.js";
import { refusal } from "./refusal.js";

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
const MOUNTS_LIMIT = 16;
const PATH_LIMIT_BYTES = 4095; // PATH_MAX of Linux, without the final NUL.

// Each part says in words what it accepts: that is what a caller reads who gives something else.
const wholeNumber = (min: number, max: number) => {
  const expected = `a whole number from ${min} to ${max}`;
  return z.int(expected).min(min, expected).max(max, expected);
};
const oneOf = <const T extends readonly [string, ...string[]]>(...values: T) =>
  z.enum(values, `one of ${values.map((value) => JSON.stringify(value)).join(", ")}`);
const flag = z.boolean("true or false");
const hasNoNul = (text: string) => !text.includes("\0");

/** Whether a text can be UTF-8: half of a surrogate pair cannot, and would arrive as something else. */
const isWellFormed = (text: string) => Buffer.from(text, "utf8").toString("utf8") === text;

const PATH_EXPECTED = `a path of 1 to ${PATH_LIMIT_BYTES} bytes without NUL`;
const path = z
  .string(PATH_EXPECTED)
  .min(1, PATH_EXPECTED)
  .refine((text) => hasNoNul(text) && Buffer.byteLength(text) <= PATH_LIMIT_BYTES, PATH_EXPECTED);

const EVERY_ADDRESS = "0.0.0.0";
const PORTS_EXPECTED = `a list of at most ${PORTS_LIMIT} ports { guest, host?, hostAddress? }`;
const ports = z
  .array(
    z
      .strictObject(
        {
          guest: guestPortSchema,
          host: hostPortSchema.optional(),
          hostAddress: hostAddressSchema.optional(),
        },
        "a port { guest, host?, hostAddress? }",
      )
      .readonly(),
    PORTS_EXPECTED,
  )
  .max(PORTS_LIMIT, PORTS_EXPECTED)
  .readonly();

const GUEST_PATH_EXPECTED = `an absolute path other than / of at most ${PATH_LIMIT_BYTES} bytes without NUL, . and ..`;
const guestPath = z
  .string(GUEST_PATH_EXPECTED)
  .regex(/^\/(?!$)/, GUEST_PATH_EXPECTED)
  .refine((text) => hasNoNul(text) && isWellFormed(text), GUEST_PATH_EXPECTED)
  .refine((text) => Buffer.byteLength(text) <= PATH_LIMIT_BYTES, GUEST_PATH_EXPECTED)
  .refine((text) => !text.split("/").some((part) => part === "." || part === ".."), GUEST_PATH_EXPECTED);

const MOUNTS_EXPECTED = `a list of at most ${MOUNTS_LIMIT} mounts { hostPath, guestPath, writable? }`;
const mounts = z
  .array(
    z
      .strictObject(
        { hostPath: path, guestPath, writable: flag.optional() },
        "a mount { hostPath, guestPath, writable? }",
      )
      .readonly(),
    MOUNTS_EXPECTED,
  )
  .max(MOUNTS_LIMIT, MOUNTS_EXPECTED)
  .readonly();

const ENV_VALUE_EXPECTED = `a text without NUL of at most ${ENV_ENTRY_LIMIT_BYTES} bytes`;
const envVars = z
  .record(
    z.string().regex(ENV_KEY_PATTERN, "a name of letters, digits and _, not beginning with a digit"),
    z
      .string(ENV_VALUE_EXPECTED)
      .refine(
        (text) => hasNoNul(text) && isWellFormed(text) && Buffer.byteLength(text) <= ENV_ENTRY_LIMIT_BYTES,
        ENV_VALUE_EXPECTED,
      ),
    "an object of texts",
  )
  .readonly()
  .refine(
    (entries) => Buffer.byteLength(JSON.stringify(entries)) <= ENV_LIMIT_BYTES,
    `at most ${ENV_LIMIT_BYTES} bytes altogether`,
  );

const IMAGE_EXPECTED = "the name of an image: a-z, 0-9, ., _ and -, at most 128 characters";
const BOOT_ARGS_EXPECTED = `at most ${BOOT_ARGS_LIMIT_BYTES} printable ASCII characters on one line`;
const schema = z
  .strictObject(
    {
      vmId: z.string(VM_ID_EXPECTED).regex(VM_ID_PATTERN, VM_ID_EXPECTED).optional(),
      vcpuCount: wholeNumber(1, 32).default(2),
      memSizeMib: wholeNumber(128, 16_384).default(512),
      image: z
        .string(IMAGE_EXPECTED)
        .regex(/^[a-z0-9][a-z0-9._-]{0,127}$/, IMAGE_EXPECTED)
        .default("debian"),
      diskMode: oneOf("isolated", "shared").default("isolated"),
      diskSizeMib: wholeNumber(16, 1024 * 1024).optional(),
      kernelPath: path.optional(),
      initrdPath: path.optional(),
      rootfsPath: path.optional(),
      bootArgs: z
        .string(BOOT_ARGS_EXPECTED)
        .regex(/^[\x20-\x7e]*$/, BOOT_ARGS_EXPECTED)
        .max(BOOT_ARGS_LIMIT_BYTES, BOOT_ARGS_EXPECTED)
        .default(""),
      backend: oneOf(...BACKEND_NAMES).default("auto"),
      accel: oneOf("auto", "kvm", "hvf", "tcg").default("auto"),
      network: networkSchema.default("user"),
      ports: ports.default([]),
      envVars: envVars.default({}),
      mounts: mounts.default([]),
      commChannel: oneOf("auto", "agent", "ssh").default("auto"),
      bootTimeoutMs: wholeNumber(100, 600_000).default(60_000),
      retainDiskOnDelete: flag.default(false),
      stateDir: path.optional(),
      lifetime: oneOf("persistent", "process").default("persistent"),
    },
    "an object with the fields of VMConfig",
  )
  .readonly();

/**
 * What a VM is to be. Every field is optional.
 *
 * - `vmId`: `^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`, default `vm-` and 8 hexadecimal digits
 * - `vcpuCount`: 1 to 32, default 2; `memSizeMib`: 128 to 16384, default 512
 * - `image`: name, default `"debian"`; `kernelPath`, `initrdPath`, `rootfsPath` replace parts of it
 * - `diskMode`: `"isolated"` (default: writes go to a private layer) or `"shared"` (boots `rootfsPath` itself)
 * - `diskSizeMib`: 16 to 1048576, default the image's own size
 * - `bootArgs`: added to the kernel command line, at most 1024 printable ASCII characters
 * - `backend`: `"auto"`, `"qemu"`; `accel`: `"auto"`, `"kvm"`, `"hvf"`, `"tcg"`
 * - `network`: `"user"` (default), `"tap"` (root or CAP_NET_ADMIN), `"none"`, or `{ mode, egress?, rateLimitMbps? }`
 * - `egress`: `"open"` (default), `"off"` or `{ allow: ["api.example.com", "*.example.org:443", "203.0.113.0/24"] }`
 * - `ports`: `[{ guest, host?, hostAddress? }]`
 * - `mounts`: `[{ hostPath, guestPath, writable? }]`, directories of the host; copy-on-write by default: what the guest writes
 *   stays its own, and a name that it looked for before the host made it can stay missing there
 * - `commChannel`: `"auto"` (default), `"agent"`, or `"ssh"`: an SSH server too, which the library itself then uses
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
  const parsed = schema.safeParse(config === undefined ? {} : config);
  if (!parsed.success) {
    throw refusal(parsed.error.issues, { input: config, name: "config", unknownField: "no field of this name" });
  }
  const checked = parsed.data;
  checkNetwork(checked);
  const collision = firstCollision(checked.ports);
  if (collision !== undefined) {
    const expected = "each host address and port once, 0.0.0.0 counting as every address";
    throw invalidConfig({ field: "ports", value: collision, expected });
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

/**
 * Checks variables that a VM is to have.
 *
 * @throws {INVALID_CONFIG} naming the variable, never its value.
 */
export function checkEnvironment(env: unknown): Readonly<Record<string, string>> {
  const parsed = envVars.safeParse(env);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({ ...issue, path: ["env", ...issue.path] }));
  throw refusal(issues, { input: { env }, name: "env", unknownField: "no field of this name" });
}

/** A fixed host port that two forwards would listen on: 0.0.0.0 is every address. */
function firstCollision(ports: CheckedConfig["ports"]): string | undefined {
  const listeners = ports.flatMap(({ host, hostAddress = DEFAULT_HOST_ADDRESS }) =>
    host ? [{ host, hostAddress }] : [],
  );
  const collision = listeners.find(({ host, hostAddress }, index) =>
    listeners.slice(0, index).some((other) => {
      const addresses = new Set([other.hostAddress, hostAddress]);
      return other.host === host && (addresses.size === 1 || addresses.has(EVERY_ADDRESS));
    }),
  );
  return collision === undefined ? undefined : `${collision.hostAddress}:${collision.host}`;
}
