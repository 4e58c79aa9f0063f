// Options that say what a VM is to be; they mirror VMConfig.

import { type Command, Option } from "commander";
import type { VMConfig } from "../../index.js";
import { collectText } from "./environment.js";
import { collectMount, type Mount } from "./mount.js";
import { addNetworkOptions, type NetworkOptions, networkConfig } from "./network.js";
import { collectPort, type Port } from "./port.js";
import { wholeNumber } from "./values.js";

/** As commander gives them. */
export interface VmOptions extends NetworkOptions {
  readonly id?: string;
  readonly vcpus?: number;
  readonly memory?: number;
  readonly image?: string;
  readonly diskSize?: number;
  readonly diskMode?: "isolated" | "shared";
  readonly kernel?: string;
  readonly initrd?: string;
  readonly rootfs?: string;
  readonly bootArgs?: string;
  readonly backend?: VMConfig["backend"];
  readonly accel?: VMConfig["accel"];
  readonly port?: readonly Port[];
  readonly mount?: readonly Mount[];
  readonly ssh?: boolean;
  readonly bootTimeout?: number;
  readonly retainDisk?: boolean;
}

/** Declares all of them but `--env`, which belongs to a command too. */
export function addVmOptions(command: Command): void {
  addIdOption(command);
  command
    .option("--vcpus <count>", "1 to 32 (default: 2)", wholeNumber("--vcpus"))
    .option("--memory <mib>", "128 to 16384 (default: 512)", wholeNumber("--memory"))
    .option("--image <name>", "image to boot (default: debian)")
    .option("--disk-size <mib>", "16 to 1048576 (default: the image's own)", wholeNumber("--disk-size"))
    .addOption(new Option("--disk-mode <mode>", "whether writes go to a private layer").choices(["isolated", "shared"]))
    .option("--kernel <file>", "kernel instead of the image's")
    .option("--initrd <file>", "initial ramdisk instead of the image's")
    .option("--rootfs <file>", "root file system instead of the image's")
    .option("--boot-args <text>", "added to the kernel command line")
    .addOption(new Option("--backend <name>", "VMM to use").choices(["auto", "qemu", "firecracker"]))
    .addOption(new Option("--accel <name>", "accelerator to use").choices(["auto", "kvm", "hvf", "tcg"]));
  addNetworkOptions(command);
  addPortOption(command);
  command
    .option(
      "--mount <mount>",
      "HOST:GUEST (copy-on-write), or HOST:GUEST:rw to write to the host; repeatable",
      collectMount,
    )
    .option("--ssh", "run an SSH server, for `smolvm ssh` and the like")
    .option("--boot-timeout <ms>", "for each of two attempts (default: 60000)", wholeNumber("--boot-timeout"))
    .option("--retain-disk", "keep the private layer when the VM is deleted");
}

/** Declares `--id`. */
export function addIdOption(command: Command): void {
  command.option("--id <id>", "id of the VM (default: vm- and 8 hexadecimal digits)");
}

/** Declares `--port`. */
export function addPortOption(command: Command): void {
  command.option("--port <port>", "GUEST, HOST:GUEST or ADDRESS:HOST:GUEST; repeatable", collectPort);
}

/** Declares `--env` of a VM. */
export function addEnvOption(command: Command): void {
  const what = "variable of every command in the VM, or the name of one of yours; repeatable";
  command.option("--env <name=value>", what, collectText);
}

/** The library's words for them; what was not given is left out. */
export function vmConfig(options: VmOptions): VMConfig {
  const config: VMConfig = {
    vmId: options.id,
    vcpuCount: options.vcpus,
    memSizeMib: options.memory,
    image: options.image,
    diskSizeMib: options.diskSize,
    diskMode: options.diskMode,
    kernelPath: options.kernel,
    initrdPath: options.initrd,
    rootfsPath: options.rootfs,
    bootArgs: options.bootArgs,
    backend: options.backend,
    accel: options.accel,
    network: networkConfig(options),
    ports: options.port,
    mounts: options.mount,
    commChannel: options.ssh === true ? "ssh" : undefined,
    bootTimeoutMs: options.bootTimeout,
    retainDiskOnDelete: options.retainDisk,
  };
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
}
