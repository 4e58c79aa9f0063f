import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findProgram } from "../../host/find-program.js";
import { runProgram } from "../../host/process.js";
import { scratchDirectory } from "../../storage/testing/scratch-store.js";
import { fakeContext, recordVm } from "../testing/fake-context.js";
import { sshAccess, sshOptions } from "./ssh-access.js";
import { writeSshFiles } from "./ssh-files.js";

const forward = { hostAddress: "127.0.0.1", hostPort: 2222, guestPort: 22 };

describe("SSH access", () => {
  test("is refused for a VM without the channel, before anybody asks whether it runs", async () => {
    const ctx = fakeContext();
    await recordVm(ctx, { status: "stopped" });
    await expect(sshAccess(ctx, "a1")).rejects.toMatchObject({ code: "UNSUPPORTED", hint: /commChannel: "ssh"/ });
    await expect(sshAccess(ctx, "a2")).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
  });

  test("names the call that helps when the VM does not run", async () => {
    const ctx = fakeContext();
    await recordVm(ctx, { status: "stopped", spec: { ssh: forward } });
    await expect(sshAccess(ctx, "a1")).rejects.toMatchObject({
      code: "INVALID_STATE",
      message: expect.stringContaining("call start() first"),
    });
  });
});

const ssh = findProgram("ssh");
if (ssh === undefined) console.log("gate: ssh-client: this host has no OpenSSH client");

test.skipIf(ssh === undefined)("OpenSSH understands the options, also with unusual paths", async () => {
  const directory = join(scratchDirectory(), "a b%h 'c'");
  mkdirSync(directory);
  await writeSshFiles(directory, forward);
  const [privateKeyPath, knownHostsPath] = [
    join(directory, "ssh_client_ed25519_key"),
    join(directory, "ssh_known_hosts"),
  ];
  const options = sshOptions(2222, { privateKeyPath, knownHostsPath });
  const lines = (await runProgram([ssh ?? "", "-G", ...options, "127.0.0.1"])).stdout.split("\n");
  expect(lines).toContain(`userknownhostsfile ${knownHostsPath}`);
  // Shown as it was said; it is expanded when the file is read.
  expect(lines.filter((line) => line.startsWith("identityfile "))).toEqual([
    `identityfile ${privateKeyPath.replaceAll("%", "%%")}`,
  ]);
  expect(lines.filter((line) => /^proxy(command|jump) /.test(line))).toEqual([]);
  for (const line of ["port 2222", "user root", "identityagent none", "stricthostkeychecking true"]) {
    expect(lines).toContain(line);
  }
});

test.skipIf(ssh === undefined)(
  "OpenSSH takes them before a configuration of the user, which then routes nothing",
  async () => {
    const directory = scratchDirectory();
    const file = join(directory, "config");
    const paths = { privateKeyPath: join(directory, "key"), knownHostsPath: join(directory, "known") };
    const own = sshOptions(2222, paths).filter((_, index, all) => all[index - 1] === "-o");
    const evil = ["ProxyCommand evil", "ControlMaster auto", "ControlPath /tmp/evil", "PermitLocalCommand yes"];
    // Either proxy hides the other, so each is tried alone.
    for (const proxy of ["ProxyJump evil", "ProxyCommand evil"]) {
      const rest = evil.filter((line) => !line.startsWith("Proxy"));
      const lines = ["Host vm", ...own.map((option) => option.replace("=", " ")), "Host *", proxy, ...rest];
      writeFileSync(file, `${lines.join("\n")}\n`);
      const { stdout } = await runProgram([ssh ?? "", "-G", "-F", file, "vm"]);
      expect(stdout).not.toContain("evil");
      expect(stdout).toContain("controlmaster false\n");
      expect(stdout).toContain("permitlocalcommand no\n");
    }
    expect(own).toEqual(expect.arrayContaining(["ProxyCommand=none", "ProxyJump=none"]));
  },
);

for (const name of ["ssh", "scp", "sftp"]) {
  const program = findProgram(name);
  test.skipIf(program === undefined)(`${name} takes every option`, async () => {
    const directory = scratchDirectory();
    const paths = { privateKeyPath: join(directory, "key"), knownHostsPath: join(directory, "known") };
    // Nothing listens on port 1: it comes as far as that.
    const there = name === "ssh" ? ["127.0.0.1"] : ["127.0.0.1:/x", directory];
    const failed = runProgram([program ?? "", ...sshOptions(1, paths), ...there]);
    await expect(failed).rejects.toMatchObject({ details: { stderr: expect.stringContaining("Connection refused") } });
  });
}
