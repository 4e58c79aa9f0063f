// Rate limits, measured at both ends: the same for every network mode.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FIRST_PORT, Internet, PERF_PORT, PUBLIC } from "../support/internet.js";
import { type Guest, HostProgram } from "../support/internet-guest.js";
import type { Probe } from "../support/internet-tool.js";
import type { TestState } from "../support/state.js";
import { pause } from "../support/wait.js";

const LIMIT_MBPS = 16;
/** What a limit of bytes on the wire may differ from what programs see: headers, bursts, and a slow machine. */
const [AT_LEAST, AT_MOST] = [0.5, 1.2];
const MEASURED_MS = 3_000;
/** Little enough that a queue of some frames lasts seconds. */
/** In mode "user" frames of 64 KiB queue in front of the limit: below this a busy network is of no use to anybody else. */
const SLOW_MBPS = { user: 8, tap: 1 } as const;
/** Generous: without a queue that grows, a connection takes tens of milliseconds. */
const PATIENCE_MS = 8_000;
const [ADDRESS] = PUBLIC;

export function rateLimit(mode: "user" | "tap", state: TestState): void {
  describe(`rate limits in mode "${mode}"`, () => {
    let internet: Internet;
    let program: HostProgram;
    let guest: Guest;

    beforeAll(async () => {
      internet = await Internet.create();
      program = await HostProgram.start(internet);
      const network = { mode, rateLimitMbps: LIMIT_MBPS };
      guest = await (await program.create(state.config({ network }))).arm();
    });

    afterAll(async () => {
      await guest?.delete();
      await program?.[Symbol.asyncDispose]();
      await internet?.expectNothingLeft().finally(() => internet[Symbol.asyncDispose]());
    });

    function expectLimited(mbps: number): void {
      expect(mbps).toBeGreaterThan(LIMIT_MBPS * AT_LEAST);
      expect(mbps).toBeLessThan(LIMIT_MBPS * AT_MOST);
    }

    it.each([1, 4])("limits what the guest takes, over %d connections together", async (streams) => {
      const options = { address: ADDRESS, port: PERF_PORT, direction: "download", ms: MEASURED_MS, streams } as const;
      expectLimited((await guest.perf(options)).mbps);
    });

    it.each([1, 4])("limits what the guest sends, over %d connections together", async (streams) => {
      const options = { address: ADDRESS, port: PERF_PORT, direction: "upload", ms: MEASURED_MS * 2, streams } as const;
      const sending = guest.perf(options);
      sending.catch(() => {});
      await pause(MEASURED_MS / 2); // Past the burst.
      const [before, started] = [await internet.outside.perfBytes(), performance.now()];
      await pause(MEASURED_MS);
      const [after, ended] = [await internet.outside.perfBytes(), performance.now()];
      expectLimited(((after - before) * 8) / 1_000 / (ended - started));
      await sending;
    });

    it("keeps a slow network usable while it is busy, whichever way", async () => {
      const network = { mode, rateLimitMbps: SLOW_MBPS[mode] };
      const slow = await (await program.create(state.config({ network }))).arm();
      const probe: Probe = { kind: "tcp", address: ADDRESS, port: FIRST_PORT, text: "x", timeoutMs: PATIENCE_MS };
      try {
        for (const direction of ["upload", "download"] as const) {
          const busy = slow.perf({ address: ADDRESS, port: PERF_PORT, direction, ms: MEASURED_MS * 2 });
          busy.catch(() => {}); // The VM may go first, after a failure.
          await pause(MEASURED_MS / 2);
          for (let i = 0; i < 3; i++) expect(await slow.try(probe), direction).toMatchObject({ outcome: "ok" });
          await busy;
        }
      } finally {
        await slow.delete();
      }
    });

    it("limits no guest that has none", async () => {
      const free = await (await program.create(state.config({ network: mode }))).arm();
      const options = { address: ADDRESS, port: PERF_PORT, direction: "download", ms: 2_000 } as const;
      expect((await free.perf(options)).mbps).toBeGreaterThan(LIMIT_MBPS * 2);
      await free.delete();
    });
  });
}
