import { expect, test } from "vitest";
import { cli } from "../testing/cli.js";

const access = {
  host: "127.0.0.1",
  options: ["-F", "none", "-o", "Port=2200", "-o", "User=root", "-o", 'IdentityFile="/a b/key"'],
};
const sdk = { SmolVM: { fromId: async () => ({ ssh: async () => access }) } };

test("runs ssh with the VM's options, and passes its exit status on", async () => {
  const ran: (readonly string[])[] = [];
  const runAttached = async (argv: readonly string[]) => {
    ran.push(argv);
    return ran.length === 1 ? 0 : 7;
  };
  expect(await cli("ssh box", { sdk, runAttached })).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  expect(await cli("ssh box -- ls -l", { sdk, runAttached })).toMatchObject({ exitCode: 7, stdout: "", stderr: "" });
  expect(ran).toEqual([
    ["ssh", ...access.options, "127.0.0.1"],
    ["ssh", ...access.options, "127.0.0.1", "ls", "-l"],
  ]);
});

test("prints what a configuration of OpenSSH needs", async () => {
  expect((await cli("ssh box --config", { sdk })).stdout).toBe(
    'Host box\n  HostName 127.0.0.1\n  Port 2200\n  User root\n  IdentityFile "/a b/key"\n',
  );
  expect((await cli("ssh box --json", { sdk })).json().data).toEqual(access);
});

test("does not go around hooks", async () => {
  const ran = await cli("ssh box -- ls", { sdk, env: { SMOLVM_HOOKS: "/hooks.mjs" } });
  expect(ran).toMatchObject({ exitCode: 77, stderr: expect.stringContaining("SMOLVM_HOOKS") });
});
