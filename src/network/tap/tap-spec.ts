// What is recorded with a lease: enough to write the VM's rules again, by whatever process finds them gone.

import { z } from "zod";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { TapLease } from "./tap-registry.js";
import type { TapVm } from "./vm-rules.js";

const port = z.number().int().min(1).max(65_535);
const specShape = z.object({
  macAddress: z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
  policy: z.object({
    mode: z.enum(["open", "off", "allow"]),
    names: z.array(z.object({ name: z.string(), port })),
    networks: z.array(z.object({ cidr: z.cidrv4(), port: port.optional() })),
  }),
  rateLimitMbps: z.number().positive().optional(),
});

/**
 * A VM without its index, as text.
 *
 * @throws {INTERNAL} for what {@link decodeSpec} would not take.
 */
export function encodeSpec({ macAddress, policy, rateLimitMbps }: Omit<TapVm, "index">): string {
  const { mode, names, networks } = policy;
  const spec = JSON.stringify({ macAddress, policy: { mode, names, networks }, rateLimitMbps });
  if (decodeSpec({ index: 0, spec }) !== undefined) return spec;
  throw new SmolVMError("INTERNAL", "Cannot record a TAP network: its MAC address or policy was not checked", {
    details: { spec },
  });
}

/** The VM of a lease; `undefined` for what another version has written: such a VM gets no rules, so it is closed. */
export function decodeSpec({ index, spec }: Pick<TapLease, "index" | "spec">): TapVm | undefined {
  try {
    const parsed = specShape.safeParse(JSON.parse(spec));
    return parsed.success ? ({ ...parsed.data, index } as TapVm) : undefined;
  } catch {
    return undefined;
  }
}
