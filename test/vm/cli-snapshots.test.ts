// Forks and snapshots through the command line.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CliProgram, until } from "./cli-program.js";

const cli = new CliProgram();

afterAll(async () => {
  await cli.run(["delete", "--all", "--force"]);
  cli[Symbol.dispose]();
});

const lines = (stdout: Buffer) =>
  stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "");

/** Runs a line of shell in a VM. */
async function sh(vmId: string, line: string): Promise<string> {
  const { stdout, stderr, exitCode } = await cli.run(["exec", vmId, "--", "sh", "-c", line]);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  return stdout.toString();
}

const vmIds = async () => lines((await cli.run(["list", "-q"])).stdout);

/** Names of a folder of the state directory: what exists, whatever is on record. */
function folder(name: string): readonly string[] {
  const path = join(cli.stateDir, name);
  return existsSync(path) ? readdirSync(path) : [];
}

describe("smolvm fork", () => {
  it("starts children that have what their parent had, and keep to themselves", async () => {
    await cli.run(["create", "--id", "box", "--network", "none", "--env", "GREETING=hello"]);
    expect((await cli.run(["info", "box"])).stdout.toString()).toMatch(/^started from: +template [0-9a-f]{12}$/m);
    await sh("box", "echo before > /root/note");
    const sleeper = cli.start(["exec", "box", "--", "sleep", "4321"]);
    await until(async () => (await sh("box", "pgrep -xc sleep || true")) === "1\n");

    const forked = await cli.run(["fork", "box", "-n", "2"]);
    expect(forked).toMatchObject({ exitCode: 0, stderr: "" });
    const children = lines(forked.stdout);
    expect(new Set([...children, "box"]).size).toBe(3);
    expect(new Set(await vmIds())).toEqual(new Set([...children, "box"]));

    for (const child of children) {
      const told = await sh(child, "cat /root/note; echo $GREETING; hostname; pgrep -xc sleep; echo own > /root/note");
      expect(told).toBe(`before\nhello\n${child}\n1\n`);
      expect((await cli.run(["info", child])).stdout.toString()).toMatch(/^started from: +fork of VM box$/m);
    }
    expect(await sh("box", "cat /root/note; hostname")).toBe("before\nbox\n");

    const { ok, data } = await cli.json(["fork", "box"]);
    expect({ ok, data }).toEqual({ ok: true, data: [{ ok: true, vmId: expect.stringMatching(/^vm-[0-9a-f]{8}$/) }] });
    expect((await cli.run(["delete", "--all", "--force"])).exitCode).toBe(0);
    expect((await sleeper.ended).exitCode).not.toBe(0);
    expect([...cli.leftovers(), ...folder("captures")]).toEqual([]);
  });

  it("tells at Ctrl-C which children there are; no other is left", async () => {
    await cli.run(["create", "--id", "many", "--network", "none"]);
    const before = folder("vms").length;
    const forking = cli.start(["fork", "many", "--count", "32"]);
    await until(() => folder("vms").length > before);
    forking.child.kill("SIGINT");
    const { exitCode, stdout } = await forking.ended;
    expect(exitCode).toBe(130);
    const children = lines(stdout);
    expect(children.length).toBeLessThan(32);
    expect(new Set(await vmIds())).toEqual(new Set([...children, "many"]));
    expect((await cli.run(["delete", "--all", "--force"])).exitCode).toBe(0);
    expect([...cli.leftovers(), ...folder("captures")]).toEqual([]);
  });

  it("refuses what cannot be forked", async () => {
    await cli.run(["create", "--no-start", "--id", "still"]);
    expect(await cli.json(["fork", "still"])).toMatchObject({ error: { code: "INVALID_STATE" }, exitCode: 70 });
    expect(await cli.json(["fork", "nope"])).toMatchObject({ error: { code: "VM_NOT_FOUND" }, exitCode: 66 });
    const none = await cli.run(["fork", "still", "-n", "0"]);
    expect(none).toMatchObject({ exitCode: 64, stderr: expect.stringContaining("option --count") });
    expect((await cli.run(["delete", "still"])).exitCode).toBe(0);
  });
});

describe("smolvm snapshot", () => {
  it("keeps a VM as it was, for any number of new ones", async () => {
    await cli.run(["create", "--id", "first", "--network", "none"]);
    await sh("first", "echo kept > /root/note");
    const created = await cli.json(["snapshot", "create", "first", "--name", "clean"]);
    expect(created).toMatchObject({ ok: true, command: "snapshot create", data: { name: "clean", vmId: "first" } });
    const { id } = created.data;
    const again = await cli.json(["snapshot", "create", "first", "--name", "clean"]);
    expect(again).toMatchObject({ exitCode: 73, error: { code: "SNAPSHOT_EXISTS" } });
    expect((await cli.json(["snapshot", "list"])).data).toEqual([created.data]);
    expect((await cli.run(["snapshot", "list", "-q"])).stdout.toString()).toBe(`${id}\n`);
    expect((await cli.run(["snapshot", "list"])).stdout.toString()).toMatch(
      new RegExp(`^${id} +clean +first +2 +512`, "m"),
    );

    await sh("first", "echo changed > /root/note");
    const one = await cli.run(["snapshot", "restore", "clean", "--id", "one", "--env", "GREETING=hello"]);
    expect(one).toMatchObject({ exitCode: 0, stderr: "", stdout: Buffer.from("one\n") });
    const two = await cli.json(["snapshot", "restore", id, "--id", "two"]);
    expect(two).toMatchObject({ ok: true, data: { vmId: "two", startedFrom: { kind: "snapshot", id } } });
    expect(await sh("one", "cat /root/note; hostname; echo $GREETING; echo mine > /root/note")).toBe(
      "kept\none\nhello\n",
    );
    expect(await sh("two", "cat /root/note; hostname")).toBe("kept\ntwo\n");
    expect(await sh("first", "cat /root/note; hostname")).toBe("changed\nfirst\n");

    // Two VMs stand on it.
    expect(await cli.json(["snapshot", "delete", "clean"])).toMatchObject({ exitCode: 75, error: { code: "BUSY" } });
    expect((await cli.run(["delete", "one", "two", "first"])).exitCode).toBe(0);
    const deleted = await cli.json(["snapshot", "delete", "nope", "clean"]);
    expect(deleted).toMatchObject({
      exitCode: 66,
      data: [
        { snapshot: "nope", ok: false },
        { snapshot: "clean", ok: true },
      ],
    });
    expect((await cli.json(["snapshot", "list"])).data).toEqual([]);
    expect([...cli.leftovers(), ...folder("captures")]).toEqual([]);
  });

  it("is completed by its id", async () => {
    await cli.run(["create", "--id", "box", "--network", "none"]);
    const { id } = (await cli.json(["snapshot", "create", "box"])).data;
    for (const verb of ["restore", "delete"]) {
      const { stdout } = await cli.bash(`
        source <(smolvm completion bash)
        COMP_WORDS=(smolvm snapshot ${verb} snap); COMP_CWORD=3; _smolvm; echo "\${COMPREPLY[@]}"`);
      expect(stdout.toString()).toBe(`${id}\n`);
    }
    expect((await cli.run(["snapshot", "delete", "--all"])).exitCode).toBe(64);
    expect((await cli.run(["snapshot", "delete", "--all", "--force"])).stdout.toString()).toBe(`${id}\n`);
    expect((await cli.run(["delete", "box"])).exitCode).toBe(0);
  });

  it("refuses ids that are none, and changes of the machine", async () => {
    for (const verb of ["restore", "delete"]) {
      const path = await cli.json(["snapshot", verb, "../snap-1"]);
      expect(path).toMatchObject({ exitCode: 64, error: { code: "INVALID_CONFIG" }, stderr: "" });
      const none = await cli.json(["snapshot", verb, "nope"]);
      expect(none).toMatchObject({ exitCode: 66, error: { code: "SNAPSHOT_NOT_FOUND" }, stderr: "" });
    }
    const name = await cli.run(["snapshot", "create", "nope", "--name", "../x"]);
    expect(name).toMatchObject({ exitCode: 66, stderr: expect.stringContaining('Cannot find VM "nope"') });
  });
});
