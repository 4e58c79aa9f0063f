import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { addGuestCommandOptions, guestCommandOptions } from "./guest-command-options.js";
import { addVmOptions, vmConfig } from "./vm-options.js";

function parse(line: string) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addVmOptions(command);
  addGuestCommandOptions(command);
  return command.parse(line === "" ? [] : line.split(" "), { from: "user" }).opts();
}

describe("options of VMs", () => {
  it("leave everything to the library's defaults when none is given", () => {
    expect(vmConfig(parse(""))).toEqual({});
  });

  it("become the fields of a VMConfig", () => {
    const line =
      "--id box --vcpus 4 --memory 2048 --image debian --disk-size 4096 --disk-mode isolated --kernel /k --initrd /i " +
      "--rootfs /r --boot-args quiet --backend auto --accel tcg --network none --port 80 --port 8443:443 " +
      "--boot-timeout 9000 --retain-disk";
    expect(vmConfig(parse(line))).toEqual({
      vmId: "box",
      vcpuCount: 4,
      memSizeMib: 2048,
      image: "debian",
      diskSizeMib: 4096,
      diskMode: "isolated",
      kernelPath: "/k",
      initrdPath: "/i",
      rootfsPath: "/r",
      bootArgs: "quiet",
      backend: "auto",
      accel: "tcg",
      network: "none",
      ports: [{ guest: 80 }, { guest: 443, host: 8443 }],
      bootTimeoutMs: 9000,
      retainDiskOnDelete: true,
    });
  });

  it.each(["--network bridge", "--disk-mode none", "--accel fast"])("refuse %s", (line) => {
    expect(() => parse(line)).toThrow(expect.objectContaining({ code: "commander.invalidArgument" }));
  });
});

describe("options of commands in a guest", () => {
  it("have no time limit by default", () => {
    expect(guestCommandOptions({}, {}).timeoutMs).toBe(Number.POSITIVE_INFINITY);
  });

  it("become the library's command options", () => {
    const options = parse("--cwd /srv --user nobody --timeout 1.5 --env A=1 --env B");
    expect(guestCommandOptions(options, { B: "2" })).toEqual({
      cwd: "/srv",
      user: "nobody",
      timeoutMs: 1500,
      env: { A: "1", B: "2" },
    });
  });
});
