import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findProgram } from "../host/find-program.js";
import { runProgram } from "../host/process.js";
import { scratchDirectory } from "../storage/testing/scratch-store.js";
import { makeSshHostKey, readSshHostKey, writeSshHostKey } from "./ssh-host-key.js";

test("each key is another one, private part and public part", () => {
  const [one, two] = [makeSshHostKey(), makeSshHostKey()];
  expect(one.privateKey).not.toBe(two.privateKey);
  expect(one.publicKey).not.toBe(two.publicKey);
  expect(one.publicKey).toMatch(/^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5[A-Za-z0-9+/]+=*$/);
});

test("is read as it was written, and the private part is for its owner only", async () => {
  const directory = scratchDirectory();
  await writeSshHostKey(directory);
  const key = await readSshHostKey(directory);
  expect(key.publicKey).toMatch(/^ssh-ed25519 \S+$/);
  await expect(writeSshHostKey(directory)).rejects.toMatchObject({ code: "STORAGE_FAILED" });
});

const sshKeygen = findProgram("ssh-keygen");
if (sshKeygen === undefined) console.log("gate: ssh-keygen: this host has no OpenSSH client");

test.skipIf(sshKeygen === undefined)("is what OpenSSH takes for a key, many times", async () => {
  const path = join(scratchDirectory(), "key");
  for (let n = 0; n < 20; n++) {
    const key = makeSshHostKey();
    writeFileSync(path, key.privateKey, { mode: 0o600 });
    const { stdout } = await runProgram([sshKeygen ?? "", "-y", "-f", path]);
    expect(stdout.trim().split(" ").slice(0, 2).join(" ")).toBe(key.publicKey);
  }
});
