import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import { signalGroup } from "../host/process.js";
import { planUserNetwork } from "./network-plan.js";
import { restartUserNetwork, type StartUserNetworkOptions, startUserNetwork } from "./user-network.js";

const HOST = { networks: [], resolvConf: { nameservers: [], search: [] } };
const PLAN = planUserNetwork({ vmId: "vm-1", guestNumber: 0 }, {}, HOST);
/** A netguard as a line of shell: this one works. It goes on until it is ended. */
const WORKS = "cat <&3 >policy; echo ready >&5; exec sleep 60";

let own: string;
beforeEach(() => {
  own = mkdtempSync(join(tmpdir(), "smolvm-user-"));
});
afterEach(() => rmSync(own, { recursive: true }));

function options(script: string, deadline = Deadline.after(10_000)): StartUserNetworkOptions {
  const guardPath = join(own, "netguard");
  writeFileSync(guardPath, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return { dir: own, plan: PLAN, guardPath, refusalsPath: join(own, "refusals.log"), deadline };
}

function endLater(pid: number): void {
  onTestFinished(() => void signalGroup(pid, "SIGKILL"));
}

const isLeft = () => readdirSync(own).includes("net");

describe.runIf(process.platform === "linux")("a user network", () => {
  test("has a directory of its own, where its socket gets its name when it is handed over", async () => {
    const started = await startUserNetwork(options(WORKS));
    endLater(started.pid);
    const { mode, uid } = statSync(join(own, "net"));
    expect(mode & 0o777).toBe(0o700);
    if (process.getuid?.() === 0) expect(uid).toBe(65_534);
    await started.ready;
    const files = () => readdirSync(join(own, "net")).sort();
    expect(files()).toEqual(["network.log", "policy", "vmm.new"]);
    started.socket.handOver();
    expect(files()).toEqual(["network.log", "policy", "vmm.sock"]);
  });

  test("that fails leaves nothing, and says what its programs said", async () => {
    const { ready } = await startUserNetwork(options("echo 'netguard: too much' >&2; exit 1"));
    await expect(ready).rejects.toMatchObject({ code: "NETWORK_FAILED", message: expect.stringMatching(/too much/) });
    expect(isLeft()).toBe(false);
  });

  test("that is not ready in time leaves nothing", async () => {
    const { pid, ready } = await startUserNetwork(options("exec sleep 60", Deadline.after(50)));
    endLater(pid);
    await expect(ready).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(isLeft()).toBe(false);
    expect(signalGroup(pid, "SIGCONT")).toBe(false);
  });

  test("that cannot be started leaves nothing", async () => {
    const missing = { ...options(WORKS), guardPath: join(own, "missing") };
    await expect(startUserNetwork(missing)).rejects.toMatchObject({ code: "HOST_UNSUPPORTED" });
    const aborted = options(WORKS, Deadline.after(10_000, AbortSignal.abort()));
    await expect(startUserNetwork(aborted)).rejects.toMatchObject({ code: "ABORTED" });
    const tooLong = { ...options(WORKS), dir: join(own, "x".repeat(100)) };
    await expect(startUserNetwork(tooLong)).rejects.toMatchObject({ code: "NETWORK_FAILED" });
    expect(isLeft()).toBe(false);
  });

  test("can be started again in the same directory, which stays if that fails", async () => {
    const first = await startUserNetwork(options(WORKS));
    endLater(first.pid);
    await first.ready;
    first.socket.handOver();
    signalGroup(first.pid, "SIGKILL");
    const second = await restartUserNetwork(options(WORKS));
    endLater(second.pid);
    await second.ready;
    const third = await restartUserNetwork(options("exit 1"));
    await expect(third.ready).rejects.toMatchObject({ code: "NETWORK_FAILED" });
    expect(readdirSync(join(own, "net"))).toContain("vmm.sock");
  });
});
