// The values of `--mount`.

import { invalidConfig } from "../../errors/invalid-config.js";

/** As the library has it. */
export interface Mount {
  readonly hostPath: string;
  readonly guestPath: string;
  readonly writable?: boolean;
}

/** Gathers repeated `--mount HOST:GUEST[:rw|:ro]`. @throws {INVALID_CONFIG} */
export function collectMount(text: string, before: readonly Mount[] = []): readonly Mount[] {
  const match = /^(.+?):(\/[^:]*)(?::(rw|ro))?$/s.exec(text);
  const [, hostPath, guestPath, how] = match ?? [];
  if (hostPath === undefined || guestPath === undefined) {
    throw invalidConfig({ field: "--mount", value: text, expected: "HOST:/GUEST, HOST:/GUEST:ro or HOST:/GUEST:rw" });
  }
  return [...before, { hostPath, guestPath, ...(how === "rw" ? { writable: true } : {}) }];
}
