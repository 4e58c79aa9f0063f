// Whole command lines against a library that is made up: what is printed where, and with which exit status.

import { describe, expect, it, vi } from "vitest";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CommandOptions } from "../index.js";
import { Interrupts } from "./interrupts.js";
import { cli } from "./testing/cli.js";

const NOT_FOUND = (id: string) => new SmolVMError("VM_NOT_FOUND", `Cannot find VM "${id}"`, { details: { vmId: id } });

const LISTED = {
  ...{
    status: "running",
    transition: null,
    image: null,
    ports: [],
    mounts: [],
    egress: "open",
    rateLimitMbps: null,
    ssh: null,
    createdAt: "2026-11-24T12:00:00Z",
  },
  startedFrom: { kind: "boot", id: null },
};

/** A made-up VM class whose VMs do what is given; it records what was asked of it. */
function vms(behaviour: Record<string, (...args: never[]) => unknown> = {}, known: readonly string[] = ["a", "b"]) {
  const calls: string[] = [];
  const vm = (vmId: string) => {
    const method =
      (name: string) =>
      async (...args: never[]) => {
        calls.push(`${name} ${vmId}`);
        return behaviour[name]?.(...args);
      };
    const names = ["start", "stop", "pause", "resume", "delete", "exec", "info", "logs"];
    return { vmId, status: "running", ...Object.fromEntries(names.map((name) => [name, method(name)])) };
  };
  const SmolVM = {
    create: async (config: { vmId?: string }) => {
      calls.push(`create ${JSON.stringify(config)}`);
      return vm(config.vmId ?? "new");
    },
    fromId: async (id: string) => {
      if (!known.includes(id)) throw NOT_FOUND(id);
      return vm(id);
    },
    list: async () => known.map((vmId) => ({ ...LISTED, vmId })),
  };
  return { sdk: { SmolVM }, calls };
}

const RESULT = { exitCode: 0, signal: null, ok: true, stdout: "", stderr: "", output: "", timedOut: false };

describe("command lines that are wrong", () => {
  it.each([
    ["", "Missing command"],
    ["nope", "unknown command 'nope'"],
    ["list --nope", "unknown option '--nope'"],
    ["info", "missing required argument 'vm'"],
    ["run --network bridge -- ls", "argument 'bridge' is invalid"],
    ["run", "Invalid argv"],
    ["exec a", "Invalid argv"],
    ["delete", "Invalid argv"],
    ["delete a --all", "Invalid argv"],
    ["run --port x -- ls", "Invalid --port"],
  ])("%j ends with 64", async (line, message) => {
    const text = await cli(line, vms());
    expect(text).toMatchObject({ exitCode: 64, stdout: "" });
    expect(text.stderr).toMatch(/^smolvm: /);
    expect(text.stderr).toContain(message);
    const { exitCode, json, stderr } = await cli(`--json ${line}`, vms());
    expect(json()).toMatchObject({ ok: false, exitCode: 64, error: { code: "INVALID_CONFIG" } });
    expect({ exitCode, stderr }).toEqual({ exitCode: 64, stderr: "" });
  });
});

describe("what a guest may have written", () => {
  const evil = "panic\x1b]0;owned\x07\x9b2J\nü";
  const failed = { ...LISTED, vmId: "a", failure: { code: "BOOT_FAILED", message: evil }, memSizeMib: 512 };
  const report = { cleaned: [{ subject: "a", what: evil }], failed: [], skipped: [] };
  const { sdk } = vms({ info: () => failed, logs: () => `${evil}\n` });
  const withReconcile = { ...sdk, reconcile: async () => report };

  it.each(["info a", "logs a", "reconcile"])("is shown by `%s` without power over a terminal", async (line) => {
    const { stdout } = await cli(line, { sdk: withReconcile, isTTY: true });
    expect(stdout).toContain("panic\\x1b]0;owned\\x07\\x9b2J\nü");
    expect(stdout).not.toMatch(/[^\n\P{Cc}]/u);
  });

  it.each(["info a", "logs a", "reconcile"])("is passed on by `%s` as it is where there is none", async (line) => {
    expect((await cli(line, { sdk: withReconcile })).stdout).toContain(evil);
  });

  it("is the same text in JSON, on a terminal too", async () => {
    const { stdout, json } = await cli("logs a --json", { sdk, isTTY: true });
    expect(json().data.log).toBe(`${evil}\n`);
    expect(stdout).not.toMatch(/[^\n\P{Cc}]/u);
  });

  it("is passed on by `exec`, which it belongs to", async () => {
    const exec = async (_argv: unknown, { onOutput }: CommandOptions) => {
      await onOutput?.("stdout", Buffer.from(evil));
      return RESULT;
    };
    expect((await cli("exec a -- x", { ...vms({ exec: exec as never }), isTTY: true })).stdout).toBe(evil);
  });
});

describe("create", () => {
  it.each([
    ["create --id new", true],
    ["create --id new --no-start", false],
  ])("`%s` is one call of the library", async (line, start) => {
    const create = vi.fn(async () => ({ info: async () => ({ vmId: "new" }) }));
    expect(await cli(line, { sdk: { SmolVM: { create } } })).toMatchObject({ exitCode: 0, stdout: "new\n" });
    expect(create).toHaveBeenCalledWith({ vmId: "new", envVars: {} }, expect.objectContaining({ start }));
  });
});

describe("--json", () => {
  it("is one document with exactly five keys", async () => {
    const { json, exitCode } = await cli("list --json", vms());
    expect(json()).toEqual({
      ok: true,
      command: "list",
      exitCode: 0,
      data: ["a", "b"].map((vmId) => ({ ...LISTED, vmId })),
      error: null,
    });
    expect(exitCode).toBe(0);
  });

  it("tells an error by code, message and hint, its details as data", async () => {
    const { json } = await cli("info c --json", vms());
    expect(json()).toEqual({
      ok: false,
      command: "info",
      exitCode: 66,
      data: { vmId: "c" },
      error: { code: "VM_NOT_FOUND", message: 'Cannot find VM "c"', hint: expect.any(String) },
    });
  });

  it("also holds for help and version", async () => {
    expect((await cli("--version --json")).json()).toMatchObject({ ok: true, data: { version: expect.any(String) } });
    const help = await cli("run --help --json");
    expect(help.json()).toMatchObject({
      ok: true,
      command: "run",
      data: { help: expect.stringContaining("--memory") },
    });
  });

  it("behind -- belongs to the guest", async () => {
    const { sdk, calls } = vms({ exec: () => RESULT });
    expect((await cli("run -- ls --json", { sdk })).stdout).toBe("");
    expect(calls).toContain("exec new");
  });
});

describe("run", () => {
  it("makes a VM that belongs to this process, passes streams through, and removes it", async () => {
    let seen: readonly string[] = [];
    const exec = async (argv: readonly string[], { stdin, onOutput }: CommandOptions) => {
      seen = argv;
      for await (const part of stdin as AsyncIterable<Buffer>) await onOutput?.("stdout", part);
      await onOutput?.("stderr", Buffer.from("err"));
      return { ...RESULT, exitCode: 7, ok: false };
    };
    const { sdk, calls } = vms({ exec: exec as never });
    const ended = await cli("run --id box --memory 1024 -- cat -n", { sdk });
    expect(ended).toMatchObject({ exitCode: 7, stdout: "in", stderr: "err" });
    expect(ended.stdin.destroyed).toBe(true);
    expect(seen).toEqual(["cat", "-n"]);
    expect(calls).toEqual(['create {"vmId":"box","memSizeMib":1024,"lifetime":"process"}', "exec box", "delete box"]);
  });

  it("collects output with --json", async () => {
    const exec = (_argv: never, options: CommandOptions) => {
      expect(options.onOutput).toBeUndefined();
      return { ...RESULT, exitCode: 137, signal: "SIGKILL", ok: false, stdout: "so far" };
    };
    const { json, exitCode } = await cli("run --json -- yes", vms({ exec: exec as never }));
    expect(exitCode).toBe(137);
    expect(json()).toMatchObject({
      ok: false,
      exitCode: 137,
      data: { stdout: "so far", signal: "SIGKILL" },
      error: { code: "COMMAND_FAILED", message: 'Command "yes" was killed by SIGKILL' },
    });
  });

  it("removes the VM when the command fails to run", async () => {
    const { sdk, calls } = vms({
      exec: () => {
        throw new SmolVMError("COMMAND_TIMEOUT", "Too long", { details: RESULT });
      },
    });
    const { exitCode, stderr } = await cli("run --timeout 1 -- sleep 5", { sdk });
    expect(exitCode).toBe(124);
    expect(stderr).toContain("smolvm: Too long\n");
    expect(calls.at(-1)).toBe("delete new");
  });

  it.each([
    ["ENOENT", 127],
    ["EACCES", 126],
  ])("ends as a shell would when the program could not be started: %s", async (errno, exitCode) => {
    const exec = () => {
      throw new SmolVMError("COMMAND_FAILED", "No such program", { details: { errno } });
    };
    expect(await cli("run -- nope", vms({ exec }))).toMatchObject({
      exitCode,
      stderr: expect.stringMatching(/^smolvm: No such program\nhint: Check/),
    });
  });

  it("tells that the VM could not be removed, and keeps the command's exit status", async () => {
    const refuse = () => {
      throw new SmolVMError("STORAGE_FAILED", "Disk stuck");
    };
    const fine = await cli("run -- true", vms({ exec: () => RESULT, delete: refuse }));
    expect(fine).toMatchObject({ exitCode: 74, stderr: expect.stringContaining("Disk stuck") });
    const failed = await cli(
      "run -- false",
      vms({ exec: () => ({ ...RESULT, exitCode: 1, ok: false }), delete: refuse }),
    );
    expect(failed.exitCode).toBe(1);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("ends with the exit status of %s once the VM is gone", async (name, exitCode) => {
    const interrupts = new Interrupts();
    const { sdk, calls } = vms({
      exec: () => {
        interrupts.interrupt(name);
        throw new SmolVMError("ABORTED", "The command was aborted");
      },
    });
    expect(await cli("run -- sleep 60", { sdk, interrupts })).toMatchObject({
      exitCode,
      stderr: `smolvm: Interrupted by ${name}\n`,
    });
    expect(calls.at(-1)).toBe("delete new");
  });

  it("ends quietly when nobody reads its output any more", async () => {
    const interrupts = new Interrupts();
    const { sdk, calls } = vms({
      exec: () => {
        interrupts.interrupt("SIGPIPE");
        throw new SmolVMError("ABORTED", "The command was aborted");
      },
    });
    expect(await cli("run -- yes", { sdk, interrupts })).toMatchObject({ exitCode: 141, stderr: "", stdout: "" });
    expect(calls.at(-1)).toBe("delete new");
  });
});

describe("commands on several VMs", () => {
  it("attempts all and ends with the exit status of the first failure", async () => {
    const { sdk, calls } = vms();
    const { exitCode, stdout, stderr } = await cli("stop x a b", { sdk });
    expect({ exitCode, stdout }).toEqual({ exitCode: 66, stdout: "a\nb\n" });
    expect(stderr).toContain('smolvm: Cannot find VM "x"\n');
    expect(calls).toEqual(["stop a", "stop b"]);
    const { json } = await cli("stop a x --json", vms());
    expect(json()).toMatchObject({
      ok: false,
      data: [
        { vmId: "a", ok: true, status: "running", error: null },
        { vmId: "x", ok: false, error: { code: "VM_NOT_FOUND" } },
      ],
      error: { code: "VM_NOT_FOUND" },
    });
  });

  it("delete --all does not act unasked where nobody can be asked", async () => {
    const { sdk, calls } = vms();
    expect(await cli("delete --all", { sdk })).toMatchObject({
      exitCode: 64,
      stderr: expect.stringContaining("--force"),
    });
    expect(calls).toEqual([]);
    expect(await cli("delete --all --force", { sdk })).toMatchObject({ exitCode: 0, stdout: "a\nb\n" });
    expect(await cli("delete --all", vms({}, []))).toMatchObject({ exitCode: 0, stdout: "" });
  });
});

describe("the host's commands", () => {
  const check = {
    id: "qemu",
    title: "QEMU",
    status: "fail",
    found: "not there",
    remedy: "Install it.",
    isRequired: true,
  };
  const promise = { id: "run", text: "Commands run", holds: false, because: "no QEMU" };

  it("doctor ends with 69 when the main job cannot run, and shows remedies and promises", async () => {
    const report = { ok: false, checks: [check], promises: [promise] };
    const { exitCode, stdout, stderr } = await cli("doctor", { sdk: { diagnoseHost: async () => report } });
    expect(exitCode).toBe(69);
    expect(stdout).toContain("FAIL  QEMU: not there\n      Install it.\n");
    expect(stdout).toContain("no    Commands run: no QEMU\n");
    expect(stderr).toContain("hint: Install it.\n");
  });

  it("setup ends with 69 when it leaves something to the user", async () => {
    const missing = [{ name: "passt", purpose: "network" }];
    const manual = {
      status: "manual",
      tapNetwork: [],
      missing,
      unavailable: [],
      commands: ["apt-get install passt"],
      reason: "no root",
    };
    const left = await cli("setup", { sdk: { setupHost: async () => manual } });
    expect(left).toMatchObject({ exitCode: 69, stdout: expect.stringContaining("  apt-get install passt\n") });
    const ready = { status: "ready", missing: [], unavailable: [], commands: [], tapNetwork: [] };
    expect((await cli("setup", { sdk: { setupHost: async () => ready } })).exitCode).toBe(0);
  });

  it("reconcile ends with 74 when something stays", async () => {
    const report = { cleaned: [{ subject: "a", what: "was running, is stopped" }], failed: [], skipped: [] };
    const fine = await cli("reconcile", { sdk: { reconcile: async () => report } });
    expect(fine).toMatchObject({ exitCode: 0, stdout: "cleaned: a: was running, is stopped\n" });
    const failing = { ...report, failed: [{ subject: "b", what: "disk" }] };
    expect((await cli("reconcile", { sdk: { reconcile: async () => failing } })).exitCode).toBe(74);
  });
});

describe("defects", () => {
  const sdk = {
    reconcile: async () => {
      throw new TypeError("x is undefined");
    },
  };

  it("are INTERNAL, with a stack only for debugging", async () => {
    const plain = await cli("reconcile", { sdk });
    expect(plain).toMatchObject({
      exitCode: 70,
      stderr: expect.stringMatching(/^smolvm: x is undefined\nhint: .*\n$/),
    });
    const debug = await cli("reconcile", { sdk, env: { SMOLVM_DEBUG: "1" } });
    expect(debug.stderr).toContain("run-cli.test");
    expect((await cli("reconcile --json", { sdk })).json()).toMatchObject({ data: null, error: { code: "INTERNAL" } });
  });
});
