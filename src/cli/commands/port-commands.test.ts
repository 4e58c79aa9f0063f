// `smolvm port ...` against a library that is made up.

import { expect, it, vi } from "vitest";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { cli } from "../testing/cli.js";

const SIGNAL = { signal: expect.any(AbortSignal) };
const web = { guestPort: 80, hostAddress: "127.0.0.1", hostPort: 8080, close: async () => {} };
const all = { guestPort: 81, hostAddress: "0.0.0.0", hostPort: 8081, close: async () => {} };
const plain = ({ guestPort, hostAddress, hostPort }: typeof web) => ({ vmId: "box", guestPort, hostAddress, hostPort });

function library(vm: object = {}) {
  const fromId = async (vmId: string) => {
    if (vmId !== "box") throw new SmolVMError("VM_NOT_FOUND", `Cannot find VM "${vmId}"`);
    return vm;
  };
  const list = async () => [
    { vmId: "box", ports: [{ guest: 80, host: 8080, hostAddress: "127.0.0.1" }] },
    { vmId: "none", ports: [] },
  ];
  return { sdk: { SmolVM: { fromId, list } } };
}

it("exposes a port and says where it is", async () => {
  const expose = vi.fn(async () => web);
  const setting = library({ expose });
  expect(await cli("port expose box 80", setting)).toMatchObject({
    exitCode: 0,
    stdout: "127.0.0.1:8080 -> 80\n",
    stderr: "",
  });
  expect(expose).toHaveBeenLastCalledWith(80, { hostPort: undefined, hostAddress: undefined, ...SIGNAL });
  const { json } = await cli("port expose box 80 --host-port 8080 --host-address 0.0.0.0 --json", setting);
  expect(json()).toEqual({ ok: true, command: "port expose", exitCode: 0, data: plain(web), error: null });
  expect(expose).toHaveBeenLastCalledWith(80, { hostPort: 8080, hostAddress: "0.0.0.0", ...SIGNAL });
});

it("says that a port is in use, with that error's exit status", async () => {
  const error = new SmolVMError("PORT_IN_USE", "Cannot forward 127.0.0.1:8080: something listens on it");
  const expose = async () => {
    throw error;
  };
  expect(await cli("port expose box 80 --host-port 8080", library({ expose }))).toMatchObject({
    exitCode: error.exitStatus,
    stderr: expect.stringContaining("something listens on it"),
  });
});

it("closes a port, and says so where there is none", async () => {
  const closePort = vi.fn(async (port: number) => port === 8080);
  const setting = library({ closePort });
  expect(await cli("port close box 8080", setting)).toMatchObject({ exitCode: 0, stdout: "127.0.0.1:8080\n" });
  expect(closePort).toHaveBeenLastCalledWith(8080, SIGNAL);
  const closed = await cli("port close box 8080 --host-address 0.0.0.0 --json", setting);
  expect(closed.json().data).toEqual({ vmId: "box", hostAddress: "0.0.0.0", hostPort: 8080 });
  expect(closePort).toHaveBeenLastCalledWith(8080, { hostAddress: "0.0.0.0", ...SIGNAL });
  expect(await cli("port close box 0.0.0.0:8080", setting)).toMatchObject({ stdout: "0.0.0.0:8080\n" });
  expect(closePort).toHaveBeenLastCalledWith(8080, { hostAddress: "0.0.0.0", ...SIGNAL });
  expect(await cli("port close box 9090", setting)).toMatchObject({
    exitCode: 64,
    stdout: "",
    stderr: expect.stringContaining("smolvm port list box"),
  });
});

it("lists the ports of one VM and of all", async () => {
  const setting = library({ ports: async () => [web, all] });
  const { stdout } = await cli("port list box", setting);
  expect(stdout.split("\n").slice(1, 3)).toEqual([
    expect.stringMatching(/^box +127\.0\.0\.1:8080 +80$/),
    expect.stringMatching(/^box +0\.0\.0\.0:8081 +81$/),
  ]);
  const none = library({ ports: async () => [] });
  expect(await cli("port list box", none)).toMatchObject({ exitCode: 0, stdout: "VM  HOST  GUEST\n", stderr: "" });
  expect((await cli("port list box -q", setting)).stdout).toBe("127.0.0.1:8080\n0.0.0.0:8081\n");
  expect((await cli("port list box --json", setting)).json().data).toEqual([plain(web), plain(all)]);
  expect((await cli("port list --json", setting)).json().data).toEqual([plain(web)]);
});

it.each([
  ["port expose box", 64, "missing required argument"],
  ["port expose box web", 64, "guest-port"],
  ["port expose box 80 --host-port some", 64, "--host-port"],
  ["port close box x", 64, "host-port"],
  ["port expose nope 80", 66, "Cannot find VM"],
  ["port list nope", 66, "Cannot find VM"],
])("`%s` ends with %i", async (line, exitCode, text) => {
  const ended = await cli(line, library());
  expect(ended).toMatchObject({ exitCode, stdout: "", stderr: expect.stringContaining(text) });
});
