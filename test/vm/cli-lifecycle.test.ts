// The life of a VM that stays, through the command line.

import { afterAll, describe, expect, it } from "vitest";
import { CliProgram, until } from "./cli-program.js";

const cli = new CliProgram();

afterAll(async () => {
  await cli.run(["delete", "--all", "--force"]);
  cli[Symbol.dispose]();
});

describe("smolvm", () => {
  it("creates, lists, uses, stops, starts and deletes a VM", async () => {
    const created = await cli.json(["create", "--id", "box", "--network", "none", "--env", "GREETING=hello"]);
    expect(created).toMatchObject({
      ok: true,
      command: "create",
      data: { vmId: "box", status: "running" },
      stderr: "",
    });
    expect(await cli.json(["create", "--id", "box"])).toMatchObject({ exitCode: 73, error: { code: "VM_EXISTS" } });

    const list = await cli.json(["list"]);
    expect(list.data.map(({ vmId, status }: { vmId: string; status: string }) => [vmId, status])).toEqual([
      ["box", "running"],
    ]);
    expect((await cli.run(["list", "-q"])).stdout.toString()).toBe("box\n");
    expect((await cli.json(["list", "--status", "stopped"])).data).toEqual([]);
    expect((await cli.run(["info", "box"])).stdout.toString()).toMatch(/^status: +running$/m);

    const exec = ["exec", "box", "--", "sh", "-c", "echo $GREETING > /root/kept; echo done"];
    expect(await cli.json(exec)).toMatchObject({ ok: true, data: { stdout: "done\n", exitCode: 0 } });

    expect(await cli.json(["pause", "box"])).toMatchObject({ ok: true, data: [{ vmId: "box", status: "paused" }] });
    expect(await cli.json(["exec", "box", "--", "true"])).toMatchObject({
      exitCode: 70,
      error: { code: "INVALID_STATE" },
    });
    expect(await cli.json(["resume", "box"])).toMatchObject({ ok: true, data: [{ status: "running" }] });

    expect(await cli.json(["stop", "box"])).toMatchObject({ ok: true, data: [{ vmId: "box", status: "stopped" }] });
    expect((await cli.json(["logs", "box"])).data.log).not.toBe("");
    expect((await cli.run(["logs", "box", "--tail", "1"])).stdout.toString().split("\n")).toHaveLength(2);

    expect((await cli.run(["start", "box"])).stdout.toString()).toBe("box\n");
    expect((await cli.run(["exec", "box", "--", "cat", "/root/kept"])).stdout.toString()).toBe("hello\n");

    const deleted = await cli.json(["delete", "box", "nope"]);
    expect(deleted).toMatchObject({ ok: false, exitCode: 66, error: { code: "VM_NOT_FOUND" } });
    expect(deleted.data.map(({ vmId, ok }: { vmId: string; ok: boolean }) => [vmId, ok])).toEqual([
      ["box", true],
      ["nope", false],
    ]);
    expect(cli.leftovers()).toEqual([]);
  });

  it("exec: Ctrl-C ends the command in the guest, the VM stays", async () => {
    await cli.run(["create", "--id", "stays", "--network", "none"]);
    const running = cli.start(["exec", "stays", "--", "sh", "-c", "sleep 4321 & echo ready; wait"], null);
    await until(() => running.output().includes("ready"));
    const count = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep [4]321' | wc -l";
    const sleepers = async () => (await cli.run(["exec", "stays", "--", "sh", "-c", count])).stdout.toString();
    expect(await sleepers()).toBe("2\n"); // The shell's own command line names it too.
    running.child.kill("SIGINT");
    expect((await running.ended).exitCode).toBe(130);
    expect(await sleepers()).toBe("0\n");
    expect((await cli.run(["delete", "stays"])).exitCode).toBe(0);
  });

  it("create --no-start only creates", async () => {
    expect(await cli.json(["create", "--no-start", "--id", "later"])).toMatchObject({ data: { status: "created" } });
    expect(await cli.json(["exec", "later", "--", "true"])).toMatchObject({
      exitCode: 70,
      error: { code: "INVALID_STATE", message: expect.stringContaining("start()") },
    });
    expect((await cli.run(["delete", "--all"])).exitCode).toBe(64);
    expect((await cli.run(["delete", "--all", "--force"])).stdout.toString()).toBe("later\n");
    expect(cli.leftovers()).toEqual([]);
  });

  it("knows what it does not know", async () => {
    for (const args of [["info"], ["start"], ["stop"], ["exec"], ["logs"]]) {
      const rest = args[0] === "exec" ? ["--", "true"] : [];
      const ended = await cli.json([...args, "nope", ...rest]);
      expect(ended).toMatchObject({
        ok: false,
        exitCode: 66,
        realExitCode: 66,
        error: { code: "VM_NOT_FOUND" },
        stderr: "",
      });
    }
  });

  it("doctor says whether the main job can run", async () => {
    const { ok, data, realExitCode } = await cli.json(["doctor"]);
    expect({ ok, realExitCode, report: data.ok }).toEqual({ ok: true, realExitCode: 0, report: true });
    expect(data.promises.length).toBeGreaterThan(0);
  });

  it("image list and inspect know the default image", async () => {
    expect((await cli.run(["image", "list", "-q"])).stdout.toString()).toContain("debian\n");
    expect(await cli.json(["image", "inspect", "debian"])).toMatchObject({ data: { name: "debian", isCurrent: true } });
    expect(await cli.json(["image", "inspect", "nope"])).toMatchObject({
      exitCode: 66,
      error: { code: "IMAGE_NOT_FOUND" },
    });
  });
});
