// How long a user network lives, and what is left of it: with its starter, its VMM, netguard and passt ending in every
// order. Against real passt, in network namespaces of its own.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { RawGuest } from "../fixtures/raw-guest.js";
import { eventually, type Line, pause } from "../fixtures/talker.js";
import { makeNamespaces, type Namespaces } from "../support/namespaces.js";
import { AS_NOBODY, gateUserNetworks, order, type UserNetwork, UserNetworks } from "../support/user-network.js";

const GATEWAY = "10.187.0.2";
/** Out there; what the resolver says of every name; and nobody's, to which connections by name may be made all the same. */
const [PUBLIC, NAMED, NOWHERE] = ["203.0.113.7", "192.0.2.53", "203.0.113.99"];
const ALLOWED = { egress: { allow: [PUBLIC, "api.example.test:80"] } };
const GET = "GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n";
const HELLO = "hello from outside\n";
/** Longer than anything here takes when it works, in milliseconds; an expectation that nothing comes waits for it. */
const QUIET_MS = 300;
/** Makes a starter that may make no network namespace, as AppArmor has it on some systems: what passt needs it may do. */
const WITHOUT_NAMESPACES = [
  ...AS_NOBODY,
  ...["unshare", "--user", "--map-current-user", "--keep-caps"],
  ...["sh", "-c", 'echo 0 > /proc/sys/user/max_net_namespaces && exec setpriv --ambient-caps=-all "$@"', "sh"],
];

const skipReason = gateUserNetworks();

describe.skipIf(skipReason !== undefined)("a user network's life", () => {
  let namespaces: Namespaces;
  let networks: UserNetworks;

  beforeAll(async () => {
    namespaces = makeNamespaces("nameserver 127.0.0.53\n", [PUBLIC, NAMED]);
    networks = new UserNetworks(namespaces.onHost);
    await namespaces.serve("host", [{ protocol: "dns", address: "127.0.0.53", port: 53, name: "resolver" }]);
    await namespaces.serve("outside", [
      { protocol: "tcp", address: PUBLIC, port: 80, name: "outside" },
      { protocol: "tcp", address: NAMED, port: 80, name: "named" },
    ]);
  });

  afterEach(async () => {
    await networks.stopAll();
    await networks.expectProcesses(1); // The services alone.
  });

  afterAll(async () => {
    await namespaces?.[Symbol.asyncDispose]();
    networks?.remove();
  });

  /** Starts a network that works, and a guest on it. */
  async function begin(
    request: Line = {},
    wrap: readonly string[] = [],
  ): Promise<{ network: UserNetwork; guest: RawGuest }> {
    const { network, result } = await networks.start({ request }, wrap);
    expect(result).toMatchObject({ ok: true });
    const guest = await network.guest();
    expect(await guest.resolveGateway(GATEWAY)).toBe(true);
    return { network, guest };
  }

  it("outlives the program that started it, and ends when its VMM is killed", async () => {
    const { network, guest } = await begin();
    network.starter.child.kill("SIGKILL");
    await eventually(() => network.starter.child.signalCode ?? undefined);
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
    process.kill(await network.vmmPid(), "SIGKILL");
    await networks.expectProcesses(1);
  });

  it("starts passt again when it is killed, and ends the connections that it had", async () => {
    const { network, guest } = await begin(ALLOWED);
    const byAddress = (await guest.connect(PUBLIC, 80))!;
    const byName = (await guest.connect(NOWHERE, 80))!;
    const killed = network.passts();
    expect(killed).toHaveLength(2);
    for (const pid of killed) process.kill(pid, "SIGKILL");
    await eventually(() => byAddress.ended() && byName.ended());
    expect([byAddress.ended(), byName.ended()]).toEqual(["rst", "rst"]);
    await eventually(() => network.passts().filter((pid) => !killed.includes(pid)).length === 2 || undefined);
    // A passt that has just been started may not be asked yet.
    const works = async (ask: () => Promise<string>, said: string) => {
      for (let tries = 0; tries < 20; tries++) if ((await ask()) === said) return true;
      return false;
    };
    expect(await works(() => guest.request(PUBLIC, 80, "GET /\n", 1_000), HELLO)).toBe(true);
    expect(await works(() => guest.request(NOWHERE, 80, GET, 1_000), "hello from named\n")).toBe(true);
  });

  it("takes both passts along when netguard itself is killed, and another one goes on for the same VMM", async () => {
    const { network, guest } = await begin(ALLOWED);
    const connection = (await guest.connect(PUBLIC, 80))!;
    process.kill(await network.guardPid(), "SIGKILL");
    await networks.expectProcesses(3); // Services, the starter and the VMM.
    const frames = guest.frames.length;
    expect(await guest.resolveGateway(GATEWAY, QUIET_MS)).toBe(false);
    expect(guest.frames.length).toBe(frames);

    expect(await network.restart()).toMatchObject({ restarted: true });
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
    connection.write("GET /\n"); // Nobody knows it any more, and says so.
    expect(await eventually(() => connection.ended())).toBe("rst");
    guest.close();
    await networks.expectProcesses(2); // The new one ends with its VMM, too.
  });

  it("goes on with a VMM that was cut off in the middle of a frame", async () => {
    const { network, guest } = await begin();
    const half = Buffer.alloc(1_004, 0xff);
    half.writeUInt32BE(2_000);
    guest.sendBytes(half);
    await pause(QUIET_MS);
    process.kill(await network.guardPid(), "SIGKILL");
    await networks.expectProcesses(3); // Services, the starter and the VMM.
    guest.sendBytes(Buffer.alloc(1_000, 0xff));
    const before = guest.frames.length;
    expect(await network.restart()).toMatchObject({ restarted: true });
    // What comes together with the rest of the frame is lost with it.
    await eventually(() => (guest.frames.length > before ? true : void guest.resolveGateway(GATEWAY, 0)));
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
  });

  it("that cannot be started again says so, and leaves its directory to the VMM", async () => {
    const { network } = await begin();
    process.kill(await network.vmmPid(), "SIGKILL");
    await networks.expectProcesses(2); // Services and the starter.
    expect(await network.restart()).toMatchObject({ restarted: false, code: "NETWORK_FAILED" });
    expect(network.files()).toEqual(["net"]);
  });

  it("gives up when no VMM ever comes, with its starter and without", async () => {
    const [told, left] = await Promise.all([
      networks.launch({ acceptTimeoutMs: 200, hasNoVmm: true }),
      networks.launch({ acceptTimeoutMs: 1_500, hasNoVmm: true }),
    ]);
    await left.starter.line((line) => line["started"] === true);
    left.starter.child.kill("SIGKILL");
    expect(await told.starter.line((line) => "ok" in line)).toMatchObject({ ok: false, code: "NETWORK_FAILED" });
    expect(told.files()).toEqual([]);
    await networks.expectProcesses(2); // Services, and the starter that still lives.
  });

  it.each([
    ["HOST_UNSUPPORTED", { guardPath: "/nonexistent/netguard" }],
    ["TIMEOUT", { timeoutMs: 0 }],
    ["ABORTED", { abortAfterMs: 0 }],
    ["NETWORK_FAILED", { dir: `/tmp/${"x".repeat(100)}` }],
  ])("fails with %s and leaves nothing", async (code, extra) => {
    const { network, result } = await networks.start(extra);
    expect(result).toMatchObject({ ok: false, code });
    expect(network.files()).toEqual([]);
  });

  it("says EPERM where no namespace for names can be made, and keeps its policy", async () => {
    const { network, guest } = await begin({}, WITHOUT_NAMESPACES);
    const answer = await order(network, ALLOWED.egress);
    expect(answer).toMatchObject({ ok: false, code: "EPERM", message: expect.stringContaining("namespace") });
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
    expect(network.passts()).toHaveLength(1);

    const { network: second, result } = await networks.start({ request: ALLOWED }, WITHOUT_NAMESPACES);
    expect(result).toMatchObject({ ok: false, code: "UNSUPPORTED", details: { exitCode: 3 } });
    expect(second.files()).toEqual([]);
  });

  it("ends in order when it is told to, and leaves no process", async () => {
    const { network, guest } = await begin({ egress: { allow: ["api.example.test"] } });
    network.starter.child.stdin?.write("stop\n");
    await network.starter.line((line) => line["stopped"] === true);
    expect(network.processes()).toEqual([]);
    guest.close();
  });

  it("is told nothing of its starter's environment", async () => {
    const { network } = await begin({}, ["env", "API_KEY=s3cr3t"]);
    const variables = (pid: number) => readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").filter(Boolean);
    const names = (pid: number) => variables(pid).map((variable) => variable.split("=")[0]);
    expect(names(await network.guardPid()).sort()).toEqual(["LC_ALL", "PATH"]);
    const [passt = 0] = network.passts();
    expect(names(passt)).toEqual(["LC_ALL"]);
  });

  it("keeps its sockets from everybody but root and its own user", async () => {
    const { network } = await begin();
    const { uid, mode } = statSync(join(network.dir, "net"));
    expect([uid, mode & 0o777]).toEqual([65_534, 0o700]);
    const status = readFileSync(`/proc/${await network.guardPid()}/status`, "utf8");
    expect(status).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
  });
});
