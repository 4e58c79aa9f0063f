// Is there a QEMU that can do what the qemu backend asks of it? Answered by calling it.

import type { Deadline } from "../../base/deadline.js";
import { type Architecture, qemuSystemProgram } from "../architecture.js";
import { findProgram } from "../find-program.js";
import { runProgram } from "../process.js";
import { type CheckContext, type CheckResult, type HostCheck, SETUP_REMEDY } from "./check.js";
import { parseAccelerators, parseMachineNames, parseNetdevTypes, parseQemuVersion } from "./qemu-facts.js";
import { isAtLeast } from "./version.js";

/** First version with `-netdev stream`, which the rootless network needs (QEMU 7.2 change log). */
const OLDEST_QEMU = [7, 2] as const;
/** Machine that guests of an architecture get. */
const MACHINE: Readonly<Record<Architecture, string>> = { x86_64: "microvm", aarch64: "virt" };

/** QEMU: present, recent enough, with the machine, network back end and sandbox that are used. */
export const qemuCheck: HostCheck = {
  id: "qemu",
  title: "QEMU",
  requiredFor: "run",
  run: checkQemu,
};

async function checkQemu({ architecture, deadline }: CheckContext): Promise<CheckResult> {
  const program = qemuSystemProgram(architecture);
  if (findProgram(program) === undefined) {
    return { status: "fail", found: `${program} is not installed`, remedy: SETUP_REMEDY };
  }
  const ask = async (...args: string[]) => (await runProgram([program, ...args], wait(deadline))).stdout;
  const [versionText, machineText, netdevText, accelText] = await Promise.all([
    ask("--version"),
    ask("-machine", "help"),
    ask("-netdev", "help"),
    ask("-accel", "help"),
  ]);
  const version = parseQemuVersion(versionText);
  if (version === undefined) return { status: "fail", found: `${program} does not state a QEMU version` };
  const name = `QEMU ${version.join(".")}`;
  if (!isAtLeast(version, OLDEST_QEMU)) {
    const remedy = `Install QEMU ${OLDEST_QEMU.join(".")} or later (Debian 12 and Ubuntu 24.04 have it).`;
    return { status: "fail", found: `${name} is too old: ${OLDEST_QEMU.join(".")} is needed`, remedy };
  }
  const lacks = [
    ...(parseMachineNames(machineText).includes(MACHINE[architecture]) ? [] : [`machine "${MACHINE[architecture]}"`]),
    ...(parseNetdevTypes(netdevText).includes("stream") ? [] : ["network back end `stream`"]),
  ];
  if (lacks.length > 0) {
    const remedy = "Use a QEMU build that has these, such as the distribution's own.";
    return { status: "fail", found: `${name} lacks ${lacks.join(" and ")}`, remedy };
  }
  return { status: "ok", found: `${name}, accelerators ${parseAccelerators(accelText).join(" and ")}` };
}

/** The seccomp filter around the VMM (`-sandbox on`): a build without it, or a kernel without seccomp, refuses it. */
export const qemuSandboxCheck: HostCheck = {
  id: "qemu-sandbox",
  title: "QEMU's seccomp filter",
  requiredFor: "isolation",
  run: checkSandbox,
};

async function checkSandbox({ architecture, deadline, platform }: CheckContext): Promise<CheckResult> {
  if (platform !== "linux") return { status: "warn", found: "seccomp exists on Linux only" };
  const program = qemuSystemProgram(architecture);
  if (findProgram(program) === undefined) {
    return { status: "fail", found: `${program} is not installed`, remedy: SETUP_REMEDY };
  }
  const sandbox = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"];
  const idle = ["-machine", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"];
  const { exitCode, stderr } = await runProgram([program, ...idle, ...sandbox], {
    ...wait(deadline),
    stdin: "quit\n",
    okExitCodes: [0, 1],
  });
  if (exitCode === 0) return { status: "ok", found: "QEMU starts under its filter" };
  return {
    status: "fail",
    found: `QEMU does not start with -sandbox on: ${stderr.trim()}`,
    remedy: "Use a QEMU build with seccomp, such as the distribution's own.",
  };
}

function wait(deadline: Deadline): { timeoutMs: number; signal: AbortSignal | undefined } {
  return { timeoutMs: deadline.remainingMs, signal: deadline.signal };
}
