import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type KvmRefusal, kvmRemedy, lookAtKvm } from "./kvm-device.js";

test("a device that opens, one that is not there, and one that does not open", async () => {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-kvm-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const device = join(directory, "kvm");
  expect(await lookAtKvm(device)).toMatchObject({ opens: false, found: `${device} does not exist` });
  writeFileSync(device, "");
  expect(await lookAtKvm(device)).toEqual({ opens: true });
  expect(await lookAtKvm(directory)).toMatchObject({ opens: false, found: `${directory} does not open (EISDIR)` });
});

test.each<[KvmRefusal, RegExp]>([
  [{ reason: "ENOENT", isContainer: false }, /firmware/],
  [{ reason: "ENOENT", isContainer: true }, /`--device \/dev\/kvm`\.$/],
  [{ reason: "EPERM", isContainer: true }, /--device \/dev\/kvm.*--group-add/],
  [{ reason: "EACCES", isContainer: false, group: "kvm" }, /usermod -aG kvm .*log in again.*setfacl -m "u:\$USER:rw"/],
  [{ reason: "EACCES", isContainer: false, group: "virt" }, /usermod -aG virt /],
  [{ reason: "EACCES", isContainer: false, group: "kvm", isMember: true }, /log in again\.$/],
  [{ reason: "EACCES", isContainer: false }, /^Get access .*setfacl.*udev/],
  [{ reason: "ENODEV", isContainer: false }, /modprobe/],
])("%o has its own remedy", (refusal, remedy) => {
  expect(kvmRemedy(refusal)).toMatch(remedy);
});
