// Which texts can be the address of a Debian mirror.

import { invalidConfig } from "../errors/invalid-config.js";

const PROTOCOLS: ReadonlySet<string> = new Set(["http:", "https:", "file:", "copy:"]);

/**
 * mmdebstrap takes an address, a line of sources.list, a file name and options in the same place: only an
 * address is let through.
 *
 * @throws {INVALID_CONFIG} naming `mirror`.
 */
export function checkMirror(mirror: string): void {
  const isAddress = URL.canParse(mirror) && PROTOCOLS.has(new URL(mirror).protocol) && !/\s/.test(mirror);
  if (isAddress) return;
  throw invalidConfig({ field: "mirror", value: mirror, expected: "an http, https, file or copy URL" });
}
