import { expect, test } from "vitest";
import { parseAccelerators, parseMachineNames, parseNetdevTypes, parseQemuVersion } from "./qemu-facts.js";
import { isAtLeast } from "./version.js";

test.each([
  ["QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", [7, 2, 22]],
  ["QEMU emulator version 10.0", [10, 0, 0]],
  ["warning: something\nQEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1)", [8, 2, 2]],
  ["KVM 1.2", undefined],
])("version of %j", (text, expected) => {
  expect(parseQemuVersion(text)).toEqual(expected);
});

test("lists lose their headings", () => {
  expect(parseAccelerators("Accelerators supported in QEMU binary:\ntcg\nkvm\n")).toEqual(["tcg", "kvm"]);
  expect(parseNetdevTypes("Available netdev backend types:\nsocket\nstream\nvhost-user\n")).toEqual([
    "socket",
    "stream",
    "vhost-user",
  ]);
});

test("machine names are the first words", () => {
  const text = [
    "Supported machines are:",
    "microvm              microvm (i386)",
    "pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)",
    "",
  ].join("\n");
  expect(parseMachineNames(text)).toEqual(["microvm", "pc-q35-7.2"]);
});

test("versions compare by number, not by text", () => {
  expect(isAtLeast([10, 0], [7, 2])).toBe(true);
  expect(isAtLeast([7, 2, 0], [7, 2])).toBe(true);
  expect(isAtLeast([7, 1, 9], [7, 2])).toBe(false);
  expect(isAtLeast([8], [7, 2])).toBe(true);
});
