// What a freshly booted guest is told before anything of the user's runs in it.

import { randomBytes } from "node:crypto";
import type { Deadline } from "../base/deadline.js";
import type { GuestConnection } from "./connection.js";
import { type FieldReader, FieldWriter } from "./fields.js";

/** Entropy given to the guest, in bytes: twice the kernel generator's 256-bit key. */
const ENTROPY_BYTES = 64;
/** How far behind the host's clock the guest's may seem to be when its answer arrives, in milliseconds. */
const CLOCK_LAG_LIMIT_MS = 40;
/** How often the clock is set anew; a host too busy for a short round trip will not get one by trying on. */
const CLOCK_CORRECTIONS = 3;

/** Network settings of the guest's one interface. */
export interface GuestInterface {
  /** Addresses with prefix length, e.g. `10.0.2.15/24`. */
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly mtu: number;
  /** Six hexadecimal bytes joined by colons. A clone's interface has its template's address until it is given its own. */
  readonly macAddress: string;
}

/** The key by which a guest's SSH server is known. */
export interface SshHostKey {
  /** The private key as OpenSSH writes it to a file. */
  readonly privateKey: string;
  /** One line, `ssh-ed25519 BASE64`. */
  readonly publicKey: string;
}

/** Identity and surroundings of a guest. */
export interface GuestSettings {
  readonly hostname: string;
  /** 32 hexadecimal digits. */
  readonly machineId: string;
  /** Environment of every command. */
  readonly env: Readonly<Record<string, string>>;
  readonly network: GuestInterface | undefined;
  readonly sshHostKey: SshHostKey | undefined;
  /**
   * The guest goes on from an image that others go on from too: it gets a new boot id, and its generation counter
   * rises before anything else of its own runs.
   */
  readonly isCopy: boolean;
  /**
   * A guest that goes on from a template runs the image's shell beside its configuration, so that an emulator has
   * translated what the first command needs: for a host that has a processor to spare.
   */
  readonly isWarmedUp: boolean;
  /** Grow the root file system to its disk. */
  readonly growRoot: boolean;
}

/** What the guest says of itself. */
export interface GuestReport {
  readonly kernelRelease: string;
  readonly bootId: string;
  readonly warnings: readonly string[];
}

/**
 * Gives a guest its identity, the time and fresh entropy. Idempotent, except that each call with `isCopy` makes one more
 * copy of it.
 *
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function configureGuest(
  connection: GuestConnection,
  settings: GuestSettings,
  deadline: Deadline,
): Promise<GuestReport> {
  const reply = await connection.call("configure", withClock(settingsFields(settings)), deadline);
  let latest = reply;
  for (let count = 0; lagMs(latest) > CLOCK_LAG_LIMIT_MS && count < CLOCK_CORRECTIONS; count++) {
    latest = await setGuestClock(connection, deadline);
  }
  return { kernelRelease: reply.text(1) ?? "", bootId: reply.text(2) ?? "", warnings: reply.texts(3) };
}

function settingsFields({ network, sshHostKey, ...settings }: GuestSettings): FieldWriter {
  const fields = new FieldWriter()
    .text(10, settings.hostname)
    .bytes(11, randomBytes(ENTROPY_BYTES))
    .texts(13, entriesOf(settings.env))
    .text(19, settings.machineId)
    .flag(20, settings.growRoot)
    .text(22, sshHostKey?.privateKey)
    .text(23, sshHostKey?.publicKey)
    .flag(24, settings.isCopy)
    .flag(25, settings.isWarmedUp);
  if (network === undefined) return fields;
  return fields
    .texts(14, network.addresses)
    .texts(15, network.gateways)
    .texts(16, network.dnsServers)
    .texts(17, network.dnsSearch)
    .u32(18, network.mtu)
    .text(21, network.macAddress);
}

/** The host's time as it is now, so last before sending. */
function withClock(fields: FieldWriter): FieldWriter {
  return fields.u64(12, BigInt(Date.now()) * 1_000_000n);
}

/** By how much a guest's clock is behind, at most, in milliseconds: it was read before its answer travelled. */
function lagMs(reply: FieldReader): number {
  const clock = reply.u64(5);
  return clock === undefined ? 0 : Date.now() - Number(clock / 1_000_000n);
}

/**
 * Sets the guest's wall clock to the host's.
 *
 * @returns The guest's answer.
 */
export async function setGuestClock(connection: GuestConnection, deadline: Deadline): Promise<FieldReader> {
  return connection.call("configure", withClock(new FieldWriter()), deadline);
}

/**
 * Replaces the environment of all later commands.
 *
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function setGuestEnvironment(
  connection: GuestConnection,
  env: Readonly<Record<string, string>>,
  deadline: Deadline,
): Promise<void> {
  await connection.call("configure", new FieldWriter().texts(13, entriesOf(env)).flag(26, true), deadline);
}

function entriesOf(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).map(([key, value]) => `${key}=${value}`);
}
