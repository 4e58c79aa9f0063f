// What a freshly booted guest is told before anything of the user's runs in it.

import { randomBytes } from "node:crypto";
import type { Deadline } from "../base/deadline.js";
import type { GuestConnection } from "./connection.js";
import { FieldWriter } from "./fields.js";

/** Entropy given to the guest, in bytes: twice the kernel generator's 256-bit key. */
const ENTROPY_BYTES = 64;

/** Network settings of the guest's one interface. */
export interface GuestInterface {
  /** Addresses with prefix length, e.g. `10.0.2.15/24`. */
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly mtu: number;
}

/** Identity and surroundings of a guest. */
export interface GuestSettings {
  readonly hostname: string;
  /** 32 hexadecimal digits. */
  readonly machineId: string;
  /** Environment of every command. */
  readonly env: Readonly<Record<string, string>>;
  readonly network: GuestInterface | undefined;
  /** Grow the root file system to its disk. */
  readonly growRoot: boolean;
}

/** What the guest says of itself. */
export interface GuestReport {
  readonly kernelRelease: string;
  readonly bootId: string;
  readonly warnings: readonly string[];
}

/** Gives a guest its identity, the time and fresh entropy. Idempotent. */
export async function configureGuest(
  connection: GuestConnection,
  settings: GuestSettings,
  deadline: Deadline,
): Promise<GuestReport> {
  const { network } = settings;
  const fields = new FieldWriter()
    .text(10, settings.hostname)
    .bytes(11, randomBytes(ENTROPY_BYTES))
    .u64(12, BigInt(Date.now()) * 1_000_000n)
    .texts(
      13,
      Object.entries(settings.env).map(([key, value]) => `${key}=${value}`),
    )
    .text(19, settings.machineId)
    .flag(20, settings.growRoot);
  if (network !== undefined) {
    fields
      .texts(14, network.addresses)
      .texts(15, network.gateways)
      .texts(16, network.dnsServers)
      .texts(17, network.dnsSearch)
      .u32(18, network.mtu);
  }
  const reply = await connection.call("configure", fields, deadline);
  return { kernelRelease: reply.text(1) ?? "", bootId: reply.text(2) ?? "", warnings: reply.texts(3) };
}

/** Sets the guest's wall clock to the host's. */
export async function setGuestClock(connection: GuestConnection, deadline: Deadline): Promise<void> {
  await connection.call("configure", new FieldWriter().u64(12, BigInt(Date.now()) * 1_000_000n), deadline);
}
