import { mkdirSync } from "node:fs";
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
  for (const line of ["port 2222", "user root", "identityagent none", "stricthostkeychecking true"]) {
    expect(lines).toContain(line);
  }
});
