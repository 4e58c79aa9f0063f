// What ports of the host outlive: the program that asked for them, the process that serves them, pauses, stops, and going
// back to a checkpoint.

import { existsSync } from "node:fs";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  close,
  ECHO,
  EVERYWHERE,
  greeted,
  killPortd,
  listen,
  plain,
  portd,
  portdsOf,
  refused,
  serve,
  works,
} from "../support/ports.js";
import { Program } from "../support/program.js";
import { SmolVM, type Vm } from "../support/smolvm.js";
import { expectNothingLeft, testState, withDatabase } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const state = testState();
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

describe("a port outlives", () => {
  it("the program that asked for it, killed", async () => {
    const program = await Program.start();
    const { hostPort } = await program.call("expose", "served", ECHO);
    const socket = await greeted(hostPort);
    await program.kill();
    socket.end("still there");
    expect(await text(socket)).toBe("still therebye\n");
    expect(await works(hostPort)).toBe(true);
    expect(plain(await vm.ports()).at(-1)).toMatchObject({ hostPort });
    await vm.closePort(hostPort);
  });

  it("the process that serves it: it is there again at the next call, the very same", async () => {
    const [first] = await vm.ports();
    const exposed = await vm.expose(EVERYWHERE);
    const before = portd(state, vm);
    await killPortd(state, vm, first!.hostPort);
    await vm.exec(["true"]); // Over a connection that is open.
    expect([await works(first!.hostPort), await works(exposed.hostPort)]).toEqual([true, true]);
    expect(portd(state, vm)).not.toBe(before);
    await killPortd(state, vm, first!.hostPort);
    await using program = await Program.start();
    await program.call("exec", "served", ["true"]);
    expect(await works(exposed.hostPort)).toBe(true);
    await killPortd(state, vm, first!.hostPort);
    await vm.ports();
    expect(await works(exposed.hostPort)).toBe(true);
    await exposed.close();
    expect(portds()).toHaveLength(1);
  });

  it("that process even if its starter died before it was on record", async () => {
    const [first] = await vm.ports();
    const sql = "UPDATE resources SET pid = NULL, start_time = NULL, boot_id = NULL WHERE vm_id = ? AND name = 'ports'";
    // Many times: a process of several threads frees its ports a moment after it looks dead.
    for (let time = 0; time < 20; time++) {
      const stray = portd(state, vm);
      withDatabase(state.databasePath, (db) => db.prepare(sql).run("served"));
      await vm.ports();
      expect(portd(state, vm)).not.toBe(stray);
      expect(portds()).toHaveLength(1);
    }
    expect(await works(first!.hostPort)).toBe(true);
  });

  it("nothing of that process when its port went to somebody else; the guest is reached all the same", async () => {
    const exposed = await vm.expose(ECHO);
    await killPortd(state, vm, exposed.hostPort);
    const thief = await listen(exposed.hostPort);
    expect((await vm.run("echo reached")).output).toBe("reached");
    expect((await vm.info()).warnings.join()).toMatch(/ports are not served/);
    const [first, ...others] = await vm.ports();
    expect(others.map(({ hostPort }) => hostPort)).toContain(exposed.hostPort);
    expect(await works(first!.hostPort)).toBe(true); // What was not taken.
    const same = { hostPort: exposed.hostPort };
    expect(await rejection(vm.expose(ECHO, same))).toMatchObject({ code: "PORT_IN_USE", details: same });
    const another = await vm.expose(ECHO);
    expect(await works(another.hostPort)).toBe(true);
    await another.close();
    expect(await vm.closePort(exposed.hostPort)).toBe(true);
    await vm.run("true");
    expect((await vm.info()).warnings.join()).not.toMatch(/ports are not served/);
    expect(await works(first!.hostPort)).toBe(true);
    await close(thief);
  });

  it("a pause: who connects meanwhile is served afterwards", async () => {
    const [first] = await vm.ports();
    const open = await greeted(first!.hostPort);
    await vm.pause();
    expect(await rejection(vm.expose(ECHO))).toMatchObject({ code: "INVALID_STATE", details: { helps: "resume()" } });
    const waiting = works(first!.hostPort);
    open.write("before ");
    await vm.resume();
    expect(await waiting).toBe(true);
    open.end("after");
    expect(await text(open)).toBe("before afterbye\n");
  });
});

describe("a VM with ports", () => {
  it("has them again after stop and start, all of them the same; closed ones stay closed", async () => {
    await using own = await SmolVM.create(state.config({ vmId: "restarted", ports: [{ guest: ECHO }, { guest: 80 }] }));
    await serve(own);
    const exposed = await own.expose(EVERYWHERE);
    const [echo, web] = await own.ports();
    await own.stop();
    expect([await refused(echo!.hostPort), await refused(exposed.hostPort)]).toEqual(["ECONNREFUSED", "ECONNREFUSED"]);
    expect(await rejection(own.expose(ECHO))).toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
    expect(await own.ports()).toHaveLength(3);
    // Nobody else gets it meanwhile.
    expect(await rejection(vm.expose(ECHO, { hostPort: exposed.hostPort }))).toMatchObject({ code: "PORT_IN_USE" });
    await web!.close();
    await own.start();
    await serve(own);
    expect(plain(await own.ports())).toEqual(plain([echo!, exposed]));
    expect([await works(echo!.hostPort), await works(exposed.hostPort)]).toEqual([true, true]);
    expect(await refused(web!.hostPort)).toBe("ECONNREFUSED");
    await own.delete();
    expect([await refused(echo!.hostPort), await refused(exposed.hostPort)]).toEqual(["ECONNREFUSED", "ECONNREFUSED"]);
    await exposed.close(); // The VM is gone, and so is the port.
  });

  it("has them when it goes back, also those that are younger, and its children have none", async () => {
    await using own = await SmolVM.create(state.config({ vmId: "rewound", ports: [{ guest: ECHO }] }));
    await serve(own);
    const checkpoint = await own.checkpoint();
    const exposed = await own.expose(EVERYWHERE);
    const before = plain(await own.ports());
    await own.rewind(checkpoint);
    expect(plain(await own.ports())).toEqual(before);
    expect([await works(before[0]!.hostPort), await works(exposed.hostPort)]).toEqual([true, true]);
    const [child] = await own.fork();
    if (!child?.ok) throw child!.error;
    try {
      expect(await child.vm.ports()).toEqual([]);
      const { hostPort } = await child.vm.expose(ECHO);
      expect([await works(hostPort), await works(exposed.hostPort)]).toEqual([true, true]);
    } finally {
      await child.vm.delete();
    }
  });

  it("is as before after a start that its VMM's end made necessary", async () => {
    await using own = await SmolVM.create(state.config({ vmId: "crashed", ports: [{ guest: ECHO }] }));
    const serving = portd(state, own);
    process.kill((await own.info()).pid!, "SIGKILL");
    await eventually(() => (existsSync(`/proc/${serving}`) ? undefined : true));
    expect((await own.info()).status).toBe("error");
    await own.start();
    await serve(own);
    expect(await works((await own.ports())[0]!.hostPort)).toBe(true);
  });

  it("in a user network has its server reached on the guest's loopback, too", async () => {
    await using own = await SmolVM.create(state.config({ vmId: "online", network: "user", ports: [{ guest: ECHO }] }));
    await serve(own);
    expect(await works((await own.ports())[0]!.hostPort)).toBe(true);
    expect(await works((await own.expose(EVERYWHERE)).hostPort)).toBe(true);
  });
});
