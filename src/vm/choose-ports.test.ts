import { once } from "node:events";
import { type AddressInfo, createConnection, createServer } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { choosePorts, type PortWishes } from "./choose-ports.js";

/** Chosen ports, which are let go at the end of the test. */
async function choose(asked: PortWishes["asked"], hasSsh = false) {
  const chosen = await choosePorts({ asked, hasSsh });
  onTestFinished(() => chosen.held.close());
  return chosen;
}

/** What becomes of a connection to a port. */
async function knock(port: number): Promise<string> {
  const client = createConnection(port, "127.0.0.1");
  try {
    await once(client, "connect");
    await once(client, "close");
    return "closed";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "";
  }
}

describe("choosing host ports", () => {
  test("free ones where none is asked for, in the order in which they were asked for", async () => {
    const { rows, ssh } = await choose([{ guest: 80 }, { guest: 81, host: 0, hostAddress: "127.0.0.2" }]);
    expect(rows).toEqual([
      { hostAddress: "127.0.0.1", hostPort: expect.any(Number), guestPort: 80, origin: "config" },
      { hostAddress: "127.0.0.2", hostPort: expect.any(Number), guestPort: 81, origin: "config" },
    ]);
    expect(rows[0]?.hostPort).toBeGreaterThan(1023);
    expect(ssh).toBeUndefined();
    expect(await choose([])).toMatchObject({ rows: [] });
  });

  test("the very ones that are asked for, nobody else's meanwhile, and free again afterwards", async () => {
    const first = await choose([{ guest: 80 }]);
    const host = first.rows[0]!.hostPort;
    await expect(choosePorts({ asked: [{ guest: 81, host }], hasSsh: false })).rejects.toMatchObject({
      code: "PORT_IN_USE",
      details: { hostAddress: "127.0.0.1", hostPort: host, reason: "EADDRINUSE" },
    });
    expect(["ECONNRESET", "closed"]).toContain(await knock(host));
    first.held.close();
    expect(await knock(host)).toBe("ECONNREFUSED");
    expect((await choose([{ guest: 80, host }])).rows).toEqual(first.rows);
  });

  test("another one for each, also for the SSH server, which is on record beside them", async () => {
    const asked = Array.from({ length: 20 }, () => ({ guest: 80 }));
    const { rows, ssh } = await choose(asked, true);
    expect(new Set(rows.map(({ hostPort }) => hostPort)).size).toBe(21);
    expect(rows.at(-1)).toEqual({ ...ssh, origin: "ssh" });
    expect(ssh).toEqual({ hostAddress: "127.0.0.1", hostPort: expect.any(Number), guestPort: 22 });
  });

  test("one that somebody listens on is refused, on its address only, and the others are let go", async () => {
    const server = createServer().listen({ host: "127.0.0.1", port: 0 });
    onTestFinished(() => void server.close());
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const free = (await choose([{ guest: 80 }])).rows[0]!.hostPort;
    const asked = [
      { guest: 80, host: free, hostAddress: "127.0.0.3" },
      { guest: 81, host: port },
    ];
    await expect(choosePorts({ asked, hasSsh: false })).rejects.toMatchObject({ code: "PORT_IN_USE" });
    expect((await choose([asked[0]!])).rows).toHaveLength(1);
    expect((await choose([{ guest: 80, host: port, hostAddress: "127.0.0.2" }])).rows).toHaveLength(1);
  });

  test("an address that this host does not have is refused", async () => {
    const asked = [{ guest: 80, hostAddress: "192.0.2.1" }];
    await expect(choosePorts({ asked, hasSsh: false })).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "ports" },
    });
  });
});
