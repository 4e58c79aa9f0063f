import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findProgram } from "../../host/find-program.js";
import { runProgram } from "../../host/process.js";
import { scratchDirectory } from "../../storage/testing/scratch-store.js";
import { makeOpenSshKey } from "./openssh-key.js";
import { readSshClientKey, readSshHostKey, sshClientFiles, writeSshFiles } from "./ssh-files.js";

test("each key is another one, private part and public part", () => {
  const [one, two] = [makeOpenSshKey(), makeOpenSshKey()];
  expect(one.privateKey).not.toBe(two.privateKey);
  expect(one.publicKey).not.toBe(two.publicKey);
  expect(one.publicKey).toMatch(/^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5[A-Za-z0-9+/]+=*$/);
});

const forward = { hostAddress: "127.0.0.1", hostPort: 2222, guestPort: 22 };

test("a VM without the SSH channel has a host key and nothing to connect with", async () => {
  const directory = scratchDirectory();
  await writeSshFiles(directory, undefined);
  expect((await readSshHostKey(directory)).publicKey).toMatch(/^ssh-ed25519 \S+$/);
  expect(readdirSync(directory).sort()).toEqual(["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]);
  await expect(readSshClientKey(directory)).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  await expect(writeSshFiles(directory, undefined)).rejects.toMatchObject({ code: "STORAGE_FAILED" });
});

test("a VM with it has a key of its own and knows its server's; private parts are for their owner only", async () => {
  const directory = scratchDirectory();
  await writeSshFiles(directory, forward);
  const [client, host] = [await readSshClientKey(directory), await readSshHostKey(directory)];
  expect(client.publicKey).not.toBe(host.publicKey);
  const { privateKeyPath, knownHostsPath } = sshClientFiles(directory);
  expect(readFileSync(privateKeyPath, "utf8")).toBe(client.privateKey);
  expect(readFileSync(knownHostsPath, "utf8")).toBe(`[127.0.0.1]:2222 ${host.publicKey}\n`);
  for (const name of readdirSync(directory).filter((file) => /_key$/.test(file))) {
    expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
  }
});

const sshKeygen = findProgram("ssh-keygen");
if (sshKeygen === undefined) console.log("gate: ssh-keygen: this host has no OpenSSH client");

test.skipIf(sshKeygen === undefined)("is what OpenSSH takes for a key, many times", async () => {
  const path = join(scratchDirectory(), "key");
  for (let n = 0; n < 20; n++) {
    const key = makeOpenSshKey();
    writeFileSync(path, key.privateKey, { mode: 0o600 });
    const { stdout } = await runProgram([sshKeygen ?? "", "-y", "-f", path]);
    expect(stdout.trim().split(" ").slice(0, 2).join(" ")).toBe(key.publicKey);
  }
});
