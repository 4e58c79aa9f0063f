import { describe, expect, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { configureGuest, type GuestSettings, setGuestClock } from "./configure.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { FakeAgent } from "./testing/fake-agent.js";

const ample = () => Deadline.after(5_000);
const bare: GuestSettings = {
  hostname: "a1",
  machineId: "0".repeat(32),
  env: {},
  network: undefined,
  sshHostKey: undefined,
  isCopy: false,
  isWarmedUp: false,
  growRoot: false,
};
const full: GuestSettings = {
  ...bare,
  env: { A: "1", B: "x=y" },
  network: {
    addresses: ["10.0.2.15/24"],
    gateways: ["10.0.2.2"],
    dnsServers: ["1.1.1.1"],
    dnsSearch: [],
    mtu: 1400,
    macAddress: "52:54:00:00:00:07",
  },
  sshHostKey: { privateKey: "PRIVATE\n", publicKey: "ssh-ed25519 AAAA" },
  isCopy: true,
  isWarmedUp: true,
  growRoot: true,
};

/** The next call that reaches the agent, which it answers. */
async function answered(agent: FakeAgent, answer = new FieldWriter()): Promise<FieldReader> {
  const { stream, payload } = await agent.next("call");
  agent.send("reply", { stream, payload: answer.finish() });
  return new FieldReader(payload);
}

describe("configure", () => {
  test("tells the guest all it needs to know", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const configuring = configureGuest(connection, full, ample());
    const report = new FieldWriter().text(1, "6.1").text(2, "boot").texts(3, ["w1", "w2"]);
    const fields = await answered(agent, report);
    expect(fields.text(1)).toBe("configure");
    expect(fields.text(10)).toBe("a1");
    expect(fields.bytes(11)).toHaveLength(64);
    expect(Math.abs(Number(fields.u64(12)! / 1_000_000n) - Date.now())).toBeLessThan(60_000);
    expect(fields.texts(13)).toEqual(["A=1", "B=x=y"]);
    expect(fields.texts(14)).toEqual(["10.0.2.15/24"]);
    expect(fields.texts(15)).toEqual(["10.0.2.2"]);
    expect(fields.texts(16)).toEqual(["1.1.1.1"]);
    expect(fields.u32(18)).toBe(1400);
    expect(fields.text(19)).toBe("0".repeat(32));
    expect(fields.bytes(20)).toEqual(Buffer.from([1]));
    expect(fields.text(21)).toBe("52:54:00:00:00:07");
    expect([fields.text(22), fields.text(23)]).toEqual(["PRIVATE\n", "ssh-ed25519 AAAA"]);
    expect([fields.bytes(24), fields.bytes(25)]).toEqual([Buffer.from([1]), Buffer.from([1])]);
    expect(await configuring).toEqual({ kernelRelease: "6.1", bootId: "boot", warnings: ["w1", "w2"] });
  });

  test("is silent of what there is not", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const configuring = configureGuest(connection, bare, ample());
    const fields = await answered(agent);
    for (const tag of [13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24]) expect(fields.bytes(tag)).toBeUndefined();
    await configuring;
  });

  test("draws entropy of its own each time", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const seen = [];
    for (let count = 0; count < 2; count++) {
      const configuring = configureGuest(connection, bare, ample());
      seen.push((await answered(agent)).bytes(11)?.toString("hex"));
      await configuring;
    }
    expect(seen[0]).not.toBe(seen[1]);
  });
});

const NOW_MS = 1_795_000_000_000;

describe("the guest's clock", () => {
  /** Configures a guest whose clock is behind by so much at each answer. @returns The calls. */
  async function configureWith(lagsMs: readonly number[]): Promise<FieldReader[]> {
    const { agent, connection } = await FakeAgent.connected();
    const clock = vi.spyOn(Date, "now").mockImplementation(() => NOW_MS);
    try {
      const configuring = configureGuest(connection, bare, ample());
      const calls: FieldReader[] = [];
      for (const lagMs of lagsMs) {
        const { stream, payload } = await agent.next("call");
        calls.push(new FieldReader(payload));
        const guestClock = BigInt(NOW_MS - lagMs) * 1_000_000n;
        agent.send("reply", { stream, payload: new FieldWriter().u64(5, guestClock).finish() });
      }
      await configuring;
      expect(agent.all("call")).toHaveLength(lagsMs.length);
      return calls;
    } finally {
      clock.mockRestore();
    }
  }

  test("is set once when the answer comes soon", async () => {
    await configureWith([40]);
  });

  test("is corrected until an answer comes soon", async () => {
    const [, second, third] = await configureWith([300, 41, 5]);
    for (const call of [second!, third!]) {
      expect(call.u64(12)).toBeDefined();
      expect([call.text(10), call.bytes(11), call.text(19)]).toEqual([undefined, undefined, undefined]);
    }
  });

  test("is corrected three times at most", async () => {
    await configureWith([300, 300, 300, 300]);
  });

  test("can be set alone", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const setting = setGuestClock(connection, ample());
    const fields = await answered(agent);
    expect(fields.text(1)).toBe("configure");
    expect(fields.u64(12)).toBeDefined();
    expect(fields.bytes(24)).toBeUndefined();
    await setting;
  });
});
