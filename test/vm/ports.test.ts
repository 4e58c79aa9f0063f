// Ports of the host that lead to guests, whatever network they have: at start, and while the VM runs.

import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect } from "node:net";
import { buffer, text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  close,
  DIGEST,
  ECHO,
  EVERYWHERE,
  freePort,
  LOOPBACK,
  listen,
  plain,
  portd,
  portdsOf,
  refused,
  SIX,
  SOURCE,
  serve,
  talk,
  works,
} from "../support/ports.js";
import { Program } from "../support/program.js";
import { SmolVM, type Vm, VmManager } from "../support/smolvm.js";
import { expectNothingLeft, testState } from "../support/state.js";
import { rejection } from "../support/wait.js";
import { CLI_PATH } from "./cli-program.js";

const state = testState();
const BIG_BYTES = 24 * 1024 * 1024;
const portds = () => portdsOf(state);

let vm: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(state.config({ vmId: "served", ports: [{ guest: ECHO }] }));
  await serve(vm);
});

afterAll(async () => {
  await vm?.delete();
  await expectNothingLeft(state.stateDir);
});

describe("a port asked for at start", () => {
  it("leads to a server on the guest's loopback, of a VM without a network", async () => {
    const [port] = await vm.ports();
    expect(port).toMatchObject({ guestPort: ECHO, hostAddress: LOOPBACK, hostPort: expect.any(Number) });
    expect((await vm.info()).ports).toEqual([{ guest: ECHO, host: port!.hostPort, hostAddress: LOOPBACK }]);
    expect((await vm.info()).network).toBe("none");
    expect(await talk(port!.hostPort, "words")).toBe("wordsbye\n");
  });

  it("is reached from where it listens only, and served without root's rights", async () => {
    const [port] = await vm.ports();
    expect(await refused(port!.hostPort, "127.0.0.2")).toBe("ECONNREFUSED");
    const status = readFileSync(`/proc/${portd(state, vm)}/status`, "utf8");
    const uid = process.getuid?.() === 0 ? 65_534 : process.getuid?.();
    expect(status).toMatch(new RegExp(`^Uid:\\t${uid}\\t${uid}\\t${uid}\\t${uid}$`, "m"));
    expect(status).toMatch(/^CapEff:\t0+$/m);
  });

  it("that is taken is PORT_IN_USE, for programs and for VMs that are stopped, and leaves nothing", async () => {
    await using manager = new VmManager();
    const busy = await listen(0);
    const { port } = busy.address() as AddressInfo;
    const config = state.config({ ports: [{ guest: 80, host: port }] });
    expect(await rejection(manager.create(config))).toMatchObject({ code: "PORT_IN_USE", details: { hostPort: port } });
    await close(busy);
    const id = await manager.create(config);
    expect(await rejection(manager.create(config))).toMatchObject({ code: "PORT_IN_USE", details: { hostPort: port } });
    const again = await listen(port);
    expect(await rejection(manager.start(id))).toMatchObject({ code: "PORT_IN_USE", details: { hostPort: port } });
    expect(await manager.info(id)).toMatchObject({ status: "error", failure: { code: "PORT_IN_USE" } });
    await close(again);
    await manager.delete(id);
    expect((await manager.list()).map(({ vmId }) => vmId)).toEqual(["served"]);
  });
});

describe("bytes", () => {
  it("go to servers on all addresses, on IPv6's loopback, and to none where nobody listens", async () => {
    const everywhere = await vm.expose(EVERYWHERE);
    const six = await vm.expose(SIX);
    const nobody = await vm.expose(7099);
    expect([await works(everywhere.hostPort), await works(six.hostPort)]).toEqual([true, true]);
    expect(await refused(nobody.hostPort)).toBe("ECONNRESET");
    await Promise.all([everywhere.close(), six.close(), nobody.close()]);
  });

  it("arrive unchanged, both ways, much of them", async () => {
    const [digest, source] = [await vm.expose(DIGEST), await vm.expose(SOURCE)];
    await vm.run(`head -c ${BIG_BYTES} /dev/urandom > /root/big`, { check: true });
    const sum = (await vm.run("sha256sum < /root/big", { check: true })).output.split(" ")[0];
    const download = await buffer(connect(source.hostPort, LOOPBACK));
    expect(download.length).toBe(BIG_BYTES);
    expect(createHash("sha256").update(download).digest("hex")).toBe(sum);
    const upload = randomBytes(BIG_BYTES);
    const socket = connect({ port: digest.hostPort, host: LOOPBACK, allowHalfOpen: true });
    socket.end(upload);
    expect(await text(socket)).toBe(`${BIG_BYTES} ${createHash("sha256").update(upload).digest("hex")}`);
    await Promise.all([digest.close(), source.close()]);
  });

  it("of fifty connections at once are kept apart", async () => {
    const { hostPort, close } = await vm.expose(ECHO);
    const words = Array.from({ length: 50 }, (_, index) => `${index} `.repeat(2_000));
    const heard = await Promise.all(words.map((one) => talk(hostPort, one)));
    expect(heard).toEqual(words.map((one) => `${one}bye\n`));
    await close();
  });

  it("of one that reads nothing keep no other waiting", async () => {
    const source = await vm.expose(SOURCE);
    const lazy = connect(source.hostPort, LOOPBACK);
    lazy.pause();
    await once(lazy, "connect");
    const [port] = await vm.ports();
    expect(await works(port!.hostPort)).toBe(true);
    expect((await buffer(connect(source.hostPort, LOOPBACK))).length).toBe(BIG_BYTES);
    lazy.destroy();
    await source.close();
  });
});

describe("exposing", () => {
  it("picks a free port, or takes the very one; the same again is the same", async () => {
    const free = await vm.expose(ECHO);
    expect(free).toMatchObject({ guestPort: ECHO, hostAddress: LOOPBACK });
    expect(await works(free.hostPort)).toBe(true);
    const host = await freePort();
    const fixed = await vm.expose(EVERYWHERE, { hostPort: host });
    expect(fixed.hostPort).toBe(host);
    const again = await vm.expose(EVERYWHERE, { hostPort: host });
    expect(plain([again])).toEqual(plain([fixed]));
    expect(plain(await vm.ports()).slice(1)).toEqual(plain([free, fixed]));
    expect(await rejection(vm.expose(ECHO, { hostPort: host }))).toMatchObject({ code: "PORT_IN_USE" });
    expect(portds()).toHaveLength(1);
    const { close } = again; // It needs no `this`.
    await close();
    await close();
    expect(await refused(host)).toBe("ECONNREFUSED");
    expect(await vm.closePort(free.hostPort)).toBe(true);
    expect(await vm.closePort(free.hostPort)).toBe(false);
    expect(await vm.ports()).toHaveLength(1);
  });

  it("to all addresses of the host is reached from all, and excludes the single ones", async () => {
    const host = await freePort();
    const every = await vm.expose(ECHO, { hostPort: host, hostAddress: "0.0.0.0" });
    expect([await works(host, LOOPBACK), await works(host, "127.0.0.2")]).toEqual([true, true]);
    const alone = rejection(vm.expose(ECHO, { hostPort: host, hostAddress: LOOPBACK }));
    expect(await alone).toMatchObject({ code: "PORT_IN_USE" });
    await every.close();
  });

  it("is PORT_IN_USE where another program listens, and the port stays that program's", async () => {
    const busy = await listen(0);
    const { port } = busy.address() as AddressInfo;
    const error = await rejection(vm.expose(ECHO, { hostPort: port }));
    expect(error).toMatchObject({ code: "PORT_IN_USE", details: { hostAddress: LOOPBACK, hostPort: port } });
    expect(await text(connect(port, LOOPBACK))).toBe("another program");
    expect(await vm.ports()).toHaveLength(1);
    await close(busy);
  });

  it.each([
    [0, {}, "guestPort"],
    [65_536, {}, "guestPort"],
    [80, { hostPort: 70_000 }, "hostPort"],
    [80, { hostAddress: "localhost" }, "hostAddress"],
    [80, { hostAddress: "192.0.2.1" }, "hostAddress"],
  ])("%i with %j is INVALID_CONFIG by its name", async (guestPort, options, field) => {
    expect(await rejection(vm.expose(guestPort, options))).toMatchObject({
      code: "INVALID_CONFIG",
      details: { field },
    });
  });

  it("by two programs at once starts one process, and gives one port to one of them", async () => {
    const fresh = await SmolVM.create(state.config({ vmId: "fresh" }));
    try {
      await serve(fresh);
      const before = portds().length;
      const programs = await Program.startMany(2);
      const host = await freePort();
      const outcomes = await Promise.allSettled(
        programs.flatMap((program, index) => [
          program.call("expose", "fresh", ECHO),
          program.call("expose", "fresh", ECHO + index, { hostPort: host }),
        ]),
      );
      const won = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
      const lost = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
      expect(won).toHaveLength(3);
      expect(lost).toEqual([expect.objectContaining({ code: "PORT_IN_USE" })]);
      for (const { hostPort } of won) expect(await works(hostPort)).toBe(true);
      expect(portds()).toHaveLength(before + 1);
      await Promise.all(programs.map((program) => program.end()));
    } finally {
      await fresh.delete();
    }
  });
});

describe("smolvm port", () => {
  const smolvm = (...args: readonly string[]) => spawnSync(process.execPath, [CLI_PATH, ...args], { encoding: "utf8" });

  it("exposes, lists and closes, each as a program of its own", async () => {
    const exposed = smolvm("port", "expose", "served", String(ECHO));
    expect(exposed).toMatchObject({ status: 0, stderr: "" });
    const [, port, leadsTo] = /^127\.0\.0\.1:(\d+) -> (\d+)\n$/.exec(exposed.stdout) ?? [];
    expect(leadsTo).toBe(String(ECHO));
    const hostPort = Number(port);
    expect(await works(hostPort)).toBe(true);
    const listed = JSON.parse(smolvm("port", "list", "served", "--json").stdout);
    expect(listed.data.at(-1)).toEqual({ vmId: "served", guestPort: ECHO, hostAddress: LOOPBACK, hostPort });
    expect(JSON.parse(smolvm("port", "list", "--json").stdout).data).toEqual(listed.data);
    expect(smolvm("port", "expose", "served", "80", "--host-port", String(hostPort))).toMatchObject({ status: 73 });
    expect(smolvm("port", "close", "served", String(hostPort))).toMatchObject({ status: 0 });
    expect(smolvm("port", "close", "served", String(hostPort))).toMatchObject({ status: 64 });
    expect(await refused(hostPort)).toBe("ECONNREFUSED");
  });
});
