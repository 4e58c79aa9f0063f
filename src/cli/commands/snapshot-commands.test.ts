// `smolvm fork` and `smolvm snapshot ...` against a library that is made up.

import { describe, expect, it, vi } from "vitest";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { ForkResult, SnapshotInfo, StartOptions, VMInfo } from "../../index.js";
import { Interrupts } from "../interrupts.js";
import { cli } from "../testing/cli.js";

const MIB_BYTES = 1024 * 1024;
const SIGNAL = { signal: expect.any(AbortSignal) };

const first: SnapshotInfo = {
  id: "snap-1",
  name: "clean",
  vmId: "box",
  vcpuCount: 2,
  memSizeMib: 512,
  diskSizeMib: 2048,
  image: { name: "debian", digest: "abc" },
  network: "user",
  backend: "qemu",
  allocatedBytes: 120 * MIB_BYTES,
  createdAt: new Date().toISOString(),
};
const second: SnapshotInfo = { ...first, id: "snap-2", name: null };

/** A library with the VM `box`, which has the given methods, and two snapshots. */
function library(vm: object = {}) {
  const fromSnapshot = vi.fn(async (_id: string, { vmId = "new" }: { vmId?: string }) => ({
    info: async () => ({ vmId }),
  }));
  const remove = vi.fn(async (id: string) => {
    if (id === "nope") throw new SmolVMError("SNAPSHOT_NOT_FOUND", `Cannot find snapshot "${id}"`);
  });
  const fromId = async (vmId: string) => {
    if (vmId !== "box") throw new SmolVMError("VM_NOT_FOUND", `Cannot find VM "${vmId}"`);
    return { vmId, ...vm };
  };
  const snapshots = { list: async () => [first, second], delete: remove };
  return { sdk: { SmolVM: { fromId, fromSnapshot, snapshots } }, fromSnapshot, remove };
}

const child = (vmId: string) => ({ ok: true, vm: { vmId } }) as unknown as ForkResult;
const failure = (code: ConstructorParameters<typeof SmolVMError>[0], text: string): ForkResult => ({
  ok: false,
  error: new SmolVMError(code, text, { hint: "Wait." }),
});

describe("fork", () => {
  it("prints the ids of the children", async () => {
    const fork = vi.fn(async () => [child("a"), child("b")]);
    expect(await cli("fork box -n 2", library({ fork }))).toMatchObject({ exitCode: 0, stdout: "a\nb\n", stderr: "" });
    expect(fork).toHaveBeenCalledWith({ count: 2, ...SIGNAL });
  });

  it("leaves the number to the library's default when none is given", async () => {
    const fork = vi.fn(async () => [child("a")]);
    await cli("fork box", library({ fork }));
    expect(fork).toHaveBeenCalledWith({ count: undefined, ...SIGNAL });
  });

  it("prints the ids that exist when others failed, and ends as the first failure says", async () => {
    const children = [child("a"), failure("BOOT_TIMEOUT", "Too slow"), child("c"), failure("BUSY", "Too busy")];
    const setting = library({ fork: async () => children });
    const busy = new SmolVMError("BOOT_TIMEOUT", "").exitStatus;
    expect(await cli("fork box --count 4", setting)).toMatchObject({
      exitCode: busy,
      stdout: "a\nc\n",
      stderr: "smolvm: Too slow\nhint: Wait.\nsmolvm: Too busy\nhint: Wait.\n",
    });
    expect((await cli("fork box --count 4 --json", setting)).json()).toEqual({
      ok: false,
      command: "fork",
      exitCode: busy,
      data: [
        { ok: true, vmId: "a" },
        { ok: false, error: { code: "BOOT_TIMEOUT", message: "Too slow", hint: "Wait." } },
        { ok: true, vmId: "c" },
        { ok: false, error: { code: "BUSY", message: "Too busy", hint: "Wait." } },
      ],
      error: { code: "BOOT_TIMEOUT", message: "Too slow", hint: "Wait." },
    });
  });

  it("says once that it was interrupted, and which children there are all the same", async () => {
    const interrupts = new Interrupts();
    const fork = async () => {
      interrupts.interrupt("SIGINT");
      return [child("a"), failure("ABORTED", "Aborted"), failure("ABORTED", "Aborted")];
    };
    expect(await cli("fork box -n 3", { ...library({ fork }), interrupts })).toMatchObject({
      exitCode: 130,
      stdout: "a\n",
      stderr: "smolvm: Interrupted by SIGINT\n",
    });
  });

  it.each([
    ["fork nope", 66, "Cannot find VM"],
    ["fork", 64, "missing required argument 'vm'"],
    ["fork box -n some", 64, "Invalid --count"],
  ])("`%s` ends with %i", async (line, exitCode, text) => {
    const ended = await cli(line, library());
    expect(ended).toMatchObject({ exitCode, stdout: "", stderr: expect.stringContaining(text) });
  });
});

describe("snapshot create", () => {
  it("prints the id", async () => {
    const snapshot = vi.fn(async () => first);
    const setting = library({ snapshot });
    expect(await cli("snapshot create box --name clean", setting)).toMatchObject({ exitCode: 0, stdout: "snap-1\n" });
    expect(snapshot).toHaveBeenCalledWith({ name: "clean", ...SIGNAL });
    const { json } = await cli("snapshot create box --json", setting);
    expect(json()).toEqual({ ok: true, command: "snapshot create", exitCode: 0, data: first, error: null });
  });
});

describe("snapshot list", () => {
  it("is a table, ids or data", async () => {
    const { stdout } = await cli("snapshot list", library());
    expect(stdout.replaceAll(/\d+ s$/gm, "AGE").split("\n")).toEqual([
      "ID      NAME   VM   VCPUS  MEMORY   ON DISK  AGE",
      "snap-1  clean  box  2      512 MiB  120 MiB  AGE",
      "snap-2  -      box  2      512 MiB  120 MiB  AGE",
      "",
    ]);
    expect((await cli("snapshot list -q", library())).stdout).toBe("snap-1\nsnap-2\n");
    expect((await cli("snapshot list --json", library())).json().data).toEqual([first, second]);
  });
});

describe("snapshot restore", () => {
  it("starts a VM with an id, ports and variables of its own", async () => {
    const { sdk, fromSnapshot } = library();
    const line = "snapshot restore clean --id copy --port 8080:80 --env A=1 --env TOKEN";
    const ended = await cli(line, { sdk, env: { TOKEN: "secret" } });
    expect(ended).toMatchObject({ exitCode: 0, stdout: "copy\n", stderr: "" });
    const config = { vmId: "copy", ports: [{ guest: 80, host: 8080 }], envVars: { A: "1", TOKEN: "secret" } };
    expect(fromSnapshot).toHaveBeenCalledWith("clean", config, SIGNAL);
  });

  it("leaves the rest to the snapshot", async () => {
    const { sdk, fromSnapshot } = library();
    expect((await cli("snapshot restore snap-1 --json", { sdk })).json()).toMatchObject({ data: { vmId: "new" } });
    expect(fromSnapshot).toHaveBeenCalledWith("snap-1", { envVars: {} }, SIGNAL);
    expect(await cli("snapshot restore snap-1 --memory 1024", { sdk })).toMatchObject({ exitCode: 64 });
  });
});

describe("snapshot delete", () => {
  it("attempts all and ends with the exit status of the first failure", async () => {
    const { sdk, remove } = library();
    expect(await cli("snapshot delete nope snap-1 snap-1", { sdk })).toMatchObject({
      exitCode: 66,
      stdout: "snap-1\n",
      stderr: expect.stringContaining('smolvm: Cannot find snapshot "nope"\n'),
    });
    expect(remove.mock.calls.map(([id]) => id)).toEqual(["nope", "snap-1"]);
    expect((await cli("snapshot delete snap-1 nope --json", { sdk })).json()).toMatchObject({
      data: [
        { snapshot: "snap-1", ok: true, error: null },
        { snapshot: "nope", ok: false, error: { code: "SNAPSHOT_NOT_FOUND" } },
      ],
    });
  });

  it("deletes all of them only when that is sure, the newest first", async () => {
    const { sdk, remove } = library();
    for (const line of ["snapshot delete", "snapshot delete --all snap-1", "snapshot delete --all"]) {
      expect(await cli(line, { sdk })).toMatchObject({ exitCode: 64, stdout: "" });
    }
    expect(remove).not.toHaveBeenCalled();
    expect((await cli("snapshot delete --all --force", { sdk })).stdout).toBe("snap-2\nsnap-1\n");
  });
});

describe("the other commands", () => {
  it.each([
    [{ kind: "boot", id: null }, "started from: boot"],
    [{ kind: "template", id: "0123456789abcdef" }, "started from: template 0123456789ab"],
    [{ kind: "snapshot", id: "snap-1" }, "started from: snapshot snap-1"],
    [{ kind: "fork", id: "parent" }, "started from: fork of VM parent"],
    [{ kind: "checkpoint", id: "checkpoint-1" }, "started from: checkpoint checkpoint-1"],
  ] as const)("info says what a VM began as: %j", async (startedFrom, text) => {
    const told = {
      vmId: "box",
      status: "running",
      failure: null,
      image: null,
      ports: [],
      mounts: [],
      egress: "open",
      rateLimitMbps: null,
      ssh: null,
      startedFrom,
    };
    const info = async () => told as unknown as VMInfo;
    expect((await cli("info box", library({ info }))).stdout).toContain(`${text}\n`);
    expect((await cli("info box --json", library({ info }))).json().data).toEqual(told);
  });

  it("info says nothing of a beginning that was not yet", async () => {
    const told = { vmId: "box", status: "created", failure: null, image: null, ports: [] };
    const info = async () => ({ ...told, startedFrom: { kind: "boot", id: null } });
    expect((await cli("info box", library({ info }))).stdout).not.toContain("started from");
  });

  it("start shows what the library says about making a template", async () => {
    const start = async ({ onProgress }: StartOptions) => onProgress?.({ step: "Making a template" });
    const ended = await cli("start box", { ...library({ start }), isTTY: true });
    expect(ended.stderr).toContain("Making a template");
  });
});
