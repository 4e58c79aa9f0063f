// What the figures were taken on.

import { execFileSync } from "node:child_process";
import { arch, cpus, release, totalmem } from "node:os";
import { prepareImage } from "../dist/index.js";

export async function describeMachine() {
  const { digest, kernelRelease } = await prepareImage("debian");
  return {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryMib: Math.round(totalmem() / 2 ** 20),
    architecture: arch(),
    hostKernel: release(),
    node: process.version,
    qemu: execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }).split("\n")[0],
    guestKernel: kernelRelease,
    image: digest.slice(0, 12),
  };
}
