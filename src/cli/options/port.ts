// The value of `--port`.

import { invalidConfig } from "../../errors/invalid-config.js";

/** A guest's port made reachable on the host. */
export interface Port {
  readonly guest: number;
  /** Left out: a free one. */
  readonly host?: number;
  /** Left out: 127.0.0.1. */
  readonly hostAddress?: string;
}

/** `[ADDRESS:][HOST]:GUEST` or `GUEST`; an IPv6 address stands in brackets. */
const PATTERN = /^(?:(?:(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):)?(\d{0,5}):)?(\d{1,5})$/;
const EXPECTED = "GUEST, HOST:GUEST or ADDRESS:HOST:GUEST with ports from 1 to 65535";
const LAST_PORT = 65_535;

/** @throws {INVALID_CONFIG} */
export function parsePort(text: string): Port {
  const match = PATTERN.exec(text);
  const refused = () => invalidConfig({ field: "--port", value: text, expected: EXPECTED });
  if (match === null) throw refused();
  const [, ipv6, ipv4, hostText, guestText] = match;
  const hostAddress = ipv6 ?? ipv4;
  const guest = Number(guestText);
  const host = hostText === undefined || hostText === "" ? undefined : Number(hostText);
  if (guest < 1 || guest > LAST_PORT || (host !== undefined && host > LAST_PORT)) throw refused();
  // `:80` says neither an address nor a port.
  if (hostText === "" && hostAddress === undefined) throw refused();
  return { guest, ...(host === undefined ? {} : { host }), ...(hostAddress === undefined ? {} : { hostAddress }) };
}

/** Gathers repeated `--port`. */
export function collectPort(text: string, before: readonly Port[] = []): readonly Port[] {
  return [...before, parsePort(text)];
}
