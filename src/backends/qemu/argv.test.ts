import { describe, expect, test } from "vitest";
import type { MachineSpec } from "../backend.js";
import { bareArgv, laneSocket, machineArgv } from "./argv.js";
import { QEMU_LANES, qemuFeatures } from "./features.js";

const PROGRAM = "/usr/bin/qemu-system-x86_64";

const machine: MachineSpec = {
  vmId: "a1",
  accelerator: "kvm",
  vcpuCount: 2,
  memSizeMib: 512,
  kernelPath: "/images/vmlinux",
  initrdPath: "/images/initramfs.cpio",
  bootArgs: "",
  disk: {
    mode: "isolated",
    path: "/state/vms/a1/disk.qcow2",
    layers: [],
    basePath: "/images/rootfs.ext4",
    baseFormat: "raw",
    sizeBytes: 2 ** 30,
  },
  memory: { from: "boot" },
  network: undefined,
  runtimeDir: "/run/smolvm/1234/abcd",
};

/** All values of an option. */
function values(argv: readonly string[], option: string): string[] {
  return argv.flatMap((word, index) => (argv[index - 1] === option ? [word] : []));
}

function blockdev(argv: readonly string[]): unknown {
  const all = values(argv, "-blockdev");
  expect(all).toHaveLength(1);
  return JSON.parse(all[0]!);
}

/** A comma-separated option as QEMU reads it: two commas are one of the value. */
function parsed(option: string): Record<string, string> {
  const separator = "\0";
  const words = option
    .replaceAll(",,", separator)
    .split(",")
    .map((word) => word.replaceAll(separator, ","));
  return Object.fromEntries(words.map((word) => word.split(/=(.*)/s).slice(0, 2) as [string, string]));
}

test("a whole machine, word by word", () => {
  const argv = machineArgv(PROGRAM, machine);
  expect(argv.slice(0, argv.indexOf("-append"))).toEqual([
    PROGRAM,
    "-machine",
    "microvm,accel=kvm,acpi=on,pit=off,pic=off,rtc=on,usb=off,isa-serial=on,x-option-roms=off",
    "-cpu",
    "host,-arch-capabilities",
    "-smp",
    "2",
    "-m",
    "512M",
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-chardev",
    "stdio,id=console,signal=off",
    "-serial",
    "chardev:console",
    "-kernel",
    "/images/vmlinux",
    "-initrd",
    "/images/initramfs.cpio",
  ]);
  expect(values(argv, "-mon")).toEqual(["chardev=qmp,mode=control"]);
  expect(values(argv, "-chardev").map(parsed)[1]).toMatchObject({ id: "qmp", path: "/run/smolvm/1234/abcd/qmp" });
});

test.each([
  ["kvm", "host,-arch-capabilities"],
  ["hvf", "host,-arch-capabilities"],
  ["tcg", "max"],
] as const)("accelerator %s", (accelerator, cpu) => {
  const argv = machineArgv(PROGRAM, { ...machine, accelerator });
  expect(values(argv, "-machine")[0]).toContain(`accel=${accelerator},`);
  expect(values(argv, "-cpu")).toEqual([cpu]);
});

test("every lane has a socket and a named port", () => {
  const argv = machineArgv(PROGRAM, machine);
  const ports = values(argv, "-device").filter((device) => device.startsWith("virtserialport"));
  expect(ports).toEqual([
    ...Array.from({ length: QEMU_LANES }, (_, lane) => `virtserialport,chardev=lane${lane},name=smolvm.${lane}`),
    "virtserialport,chardev=ownlane,name=smolvm.own",
  ]);
  expect(values(argv, "-chardev")).toContain("socket,id=ownlane,fd=3");
  for (let lane = 0; lane < QEMU_LANES; lane++) {
    expect(values(argv, "-chardev")).toContain(
      `socket,id=lane${lane},path=/run/smolvm/1234/abcd/${laneSocket(lane)},server=on,wait=off`,
    );
  }
  expect(values(argv, "-device")).toContain(`virtio-serial-device,max_ports=${QEMU_LANES + 2}`);
});

describe("disks", () => {
  test("an isolated one is a layer over a base that is only read", () => {
    expect(blockdev(machineArgv(PROGRAM, machine))).toEqual({
      driver: "qcow2",
      file: { driver: "file", filename: "/state/vms/a1/disk.qcow2", discard: "unmap" },
      backing: {
        "node-name": "below",
        driver: "raw",
        "read-only": true,
        file: { driver: "file", filename: "/images/rootfs.ext4", "read-only": true, locking: "off" },
      },
      "node-name": "root",
      discard: "unmap",
    });
  });

  test("frozen layers lie between them, the newest first, each told what it lies on", () => {
    const disk = { ...machine.disk, layers: ["/t/new,er", "/t/older"] } as MachineSpec["disk"];
    const frozen = (filename: string) => ({ driver: "file", filename, "read-only": true, locking: "off" });
    expect(blockdev(machineArgv(PROGRAM, { ...machine, disk }))).toEqual({
      driver: "qcow2",
      "node-name": "root",
      discard: "unmap",
      file: { driver: "file", filename: "/state/vms/a1/disk.qcow2", discard: "unmap" },
      backing: {
        "node-name": "below",
        driver: "qcow2",
        "read-only": true,
        file: frozen("/t/new,er"),
        backing: {
          driver: "qcow2",
          "read-only": true,
          file: frozen("/t/older"),
          backing: { driver: "raw", "read-only": true, file: frozen("/images/rootfs.ext4") },
        },
      },
    });
  });

  test.each(["raw", "qcow2"] as const)("a shared one in format %s is itself, locked and written to", (format) => {
    const argv = machineArgv(PROGRAM, { ...machine, disk: { mode: "shared", path: "/my/disk", format } });
    expect(blockdev(argv)).toEqual({
      driver: format,
      ...(format === "qcow2" ? { backing: null } : {}),
      file: { driver: "file", filename: "/my/disk", discard: "unmap" },
      "node-name": "root",
      discard: "unmap",
    });
  });

  test("a base in format qcow2 has no base of its own, whatever its header says", () => {
    const disk = { ...machine.disk, baseFormat: "qcow2" } as MachineSpec["disk"];
    expect(blockdev(machineArgv(PROGRAM, { ...machine, disk }))).toMatchObject({
      backing: { driver: "qcow2", backing: null, file: { filename: "/images/rootfs.ext4" } },
    });
  });
});

describe("networks", () => {
  test("none means no device at all", () => {
    const argv = machineArgv(PROGRAM, machine);
    expect(values(argv, "-netdev")).toEqual([]);
    expect(argv.join(" ")).not.toMatch(/virtio-net|-nic/);
  });

  test("one without a socket is a device that nothing is behind", () => {
    const network = { link: undefined, macAddress: "52:54:00:12:34:56" };
    const argv = machineArgv(PROGRAM, { ...machine, network });
    expect(values(argv, "-netdev")).toEqual([]);
    expect(values(argv, "-device")).toContain("virtio-net-device,mac=52:54:00:12:34:56");
  });

  test("one goes to a socket", () => {
    const network = { link: { kind: "socket" as const, fd: 17 }, macAddress: "52:54:00:12:34:56" };
    const argv = machineArgv(PROGRAM, { ...machine, network });
    expect(values(argv, "-netdev")).toEqual(["stream,id=net0,server=on,addr.type=fd,addr.str=5"]);
    expect(values(argv, "-device")).toContain("virtio-net-device,netdev=net0,mac=52:54:00:12:34:56");
  });
});

describe("memory", () => {
  const object = (argv: readonly string[]) => values(argv, "-object").map((word) => JSON.parse(word) as object);
  const file = { "qom-type": "memory-backend-file", id: "ram", size: 512 * 2 ** 20, "mem-path": "/t/mem,ory" };

  test("of a machine that boots is QEMU's own", () => {
    const argv = machineArgv(PROGRAM, machine);
    expect(object(argv)).toEqual([]);
    expect(argv.join(" ")).not.toMatch(/memory-backend|-incoming|-global/);
  });

  test("that is recorded is a file, shared with it", () => {
    const argv = machineArgv(PROGRAM, { ...machine, memory: { from: "recording", path: "/t/mem,ory" } });
    expect(object(argv)).toEqual([{ ...file, share: true }]);
    expect(values(argv, "-machine")[0]).toMatch(/,memory-backend=ram$/);
    expect(values(argv, "-kernel")).toEqual(["/images/vmlinux"]);
    expect(argv.join(" ")).not.toMatch(/-incoming|-global/);
  });

  test("from an image is a file that is not written to; no kernel is read", () => {
    const memory = { from: "image", path: "/t/mem,ory", devicesPath: "/t/devices" } as const;
    const argv = machineArgv(PROGRAM, { ...machine, memory });
    expect(object(argv)).toEqual([{ ...file, share: false }]);
    expect(values(argv, "-machine")[0]).toMatch(/,memory-backend=ram,suppress-vmdesc=on$/);
    expect(values(argv, "-incoming")).toEqual(["fd:4"]);
    expect(values(argv, "-global")).toEqual(["migration.send-configuration=off", "migration.announce-rounds=0"]);
    expect(argv.filter((word) => ["-kernel", "-initrd", "-append"].includes(word))).toEqual([]);
    // The rest is the machine that was frozen.
    const rest = (words: readonly string[]) => ["-device", "-smp", "-cpu", "-m"].map((word) => values(words, word));
    expect(rest(argv)).toEqual(rest(machineArgv(PROGRAM, machine)));
    expect(values(argv, "-sandbox")).toEqual(values(machineArgv(PROGRAM, machine), "-sandbox"));
  });
});

describe.each([
  ["commas", "/a,b,,c/readonly=on,x"],
  ["quotes", `/a"b'c\\d`],
  ["spaces and newlines", "/a b\nc\td"],
  ["options", "/-append/--version/file=x"],
  ["unicode", "/ü/🐧"],
])("paths with %s", (_what, path) => {
  const argv = machineArgv(PROGRAM, {
    ...machine,
    kernelPath: `${path}/kernel`,
    initrdPath: `${path}/initrd`,
    disk: {
      mode: "isolated",
      path: `${path}/disk`,
      layers: [`${path}/layer`],
      basePath: `${path}/base`,
      baseFormat: "qcow2",
      sizeBytes: 512,
    },
    network: { link: { kind: "tap" as const, device: path }, macAddress: "52:54:00:00:00:01" },
    runtimeDir: path,
  });

  test("stay whole where they are words of their own, and in JSON", () => {
    expect(values(argv, "-kernel")).toEqual([`${path}/kernel`]);
    expect(values(argv, "-initrd")).toEqual([`${path}/initrd`]);
    expect(blockdev(argv)).toMatchObject({
      file: { filename: `${path}/disk` },
      backing: {
        driver: "qcow2",
        file: { filename: `${path}/layer` },
        backing: { driver: "qcow2", file: { filename: `${path}/base` } },
      },
    });
  });

  test("stay whole in comma-separated options, and add none", () => {
    const [, monitor, lane] = values(argv, "-chardev").map(parsed);
    expect(monitor).toMatchObject({ id: "qmp", path: `${path}/qmp`, server: "on", wait: "off" });
    expect(Object.keys(monitor!)).toEqual(["socket", "id", "path", "server", "wait"]);
    expect(lane).toMatchObject({ path: `${path}/lane0` });
    const [net] = values(argv, "-netdev").map(parsed);
    expect(net).toMatchObject({ ifname: path, script: "no" });
    expect(Object.keys(net!)).toEqual(["tap", "id", "ifname", "script", "downscript"]);
  });

  test("do not change how many words there are", () => {
    const plain = machineArgv(PROGRAM, { ...machine, network: { link: { kind: "socket", fd: 9 }, macAddress: "m" } });
    expect(argv).toHaveLength(plain.length);
  });
});

test("boot arguments are one word, last on the command line", () => {
  const argv = machineArgv(PROGRAM, { ...machine, bootArgs: 'init=/bin/sh -hda "x y"' });
  const [line] = values(argv, "-append");
  expect(line).toMatch(/ smolvm\.root=\/dev\/vda init=\/bin\/sh -hda "x y"$/);
  expect(argv).not.toContain("-hda");
});

test("a bare machine has no disk, no lanes and no network", () => {
  const argv = bareArgv(PROGRAM, { ...machine, kernelArguments: "probe" });
  expect(argv.filter((word) => ["-blockdev", "-device", "-netdev", "-mon"].includes(word))).toEqual([]);
  expect(values(argv, "-append")).toEqual(["probe"]);
});

test("the accelerators worth trying, best first", () => {
  expect(qemuFeatures("linux")).toMatchObject({ laneCount: QEMU_LANES, accelerators: ["kvm", "tcg"] });
  expect(qemuFeatures("darwin").accelerators).toEqual(["hvf", "tcg"]);
});
