// Rate limits, measured at both ends: the same for every network mode.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Internet, PERF_PORT, PUBLIC } from "../support/internet.js";
import { type Guest, HostProgram } from "../support/internet-guest.js";
import type { Probe } from "../support/internet-tool.js";
import type { TestState } from "../support/state.js";
import { pause } from "../support/wait.js";

const LIMIT_MBPS = 16;
/** What a limit of bytes on the wire may differ from what programs see: headers, bursts, and a slow machine. */
const [AT_LEAST, AT_MOST] = [0.5, 1.2];
const MEASURED_MS = 3_000;
/** The least that there is: a queue of some large frames lasts seconds. */
const SLOW_MBPS = 1;
const SHORT_REQUESTS = 5;
/** Longer than all short requests together may take; nobody waits for its end. */
const SLOW_TRANSFER_MS = 100_000;
/** Generous: without a queue that grows, a connection takes tens of milliseconds. */
const PATIENCE_MS = 8_000;
const [ADDRESS] = PUBLIC;
const NAME = "slow.example";

export function rateLimit(mode: "user" | "tap", state: TestState): void {
  describe(`rate limits in mode "${mode}"`, () => {
    let internet: Internet;
    let program: HostProgram;
    let guest: Guest;

    beforeAll(async () => {
      internet = await Internet.create({ zone: { [NAME]: { a: [ADDRESS] } } });
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

    it.each(["upload", "download"] as const)("keeps a slow network usable during an %s", async (direction) => {
      const network = { mode, rateLimitMbps: SLOW_MBPS };
      const slow = await (await program.create(state.config({ network }))).arm();
      const text = `GET / HTTP/1.1\r\nHost: ${NAME}\r\nConnection: close\r\n\r\n`;
      const web: Probe = { kind: "tcp", address: ADDRESS, port: 80, text, readAll: true, timeoutMs: PATIENCE_MS };
      const dns: Probe = { kind: "dns", name: NAME, type: "A", timeoutMs: PATIENCE_MS };
      let isBusy = true;
      try {
        const transfer = slow.perf({ address: ADDRESS, port: PERF_PORT, direction, ms: SLOW_TRANSFER_MS });
        const over = () => {
          isBusy = false;
        };
        transfer.then(over, over); // The VM goes first.
        await pause(MEASURED_MS / 2);
        for (let i = 0; i < SHORT_REQUESTS; i++) {
          const [page, lookup] = [await slow.try(web), await slow.try(dns)];
          expect(page).toMatchObject({ outcome: "ok", reply: expect.stringContaining("200 OK") });
          expect(lookup).toMatchObject({ outcome: "ok", lookup: { answers: [ADDRESS] } });
        }
        expect(isBusy).toBe(true); // Else nothing was shown, or it was reset.
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
