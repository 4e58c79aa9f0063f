// Are the tools of the two network modes there?

import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { hasCapability } from "../capabilities.js";
import { findProgram } from "../find-program.js";
import { runProgram } from "../process.js";
import { type CheckContext, type CheckResult, type HostCheck, SETUP_REMEDY } from "./check.js";

/** passt: the rootless default network. */
export const passtCheck: HostCheck = { id: "passt", title: "passt", requiredFor: "network", run: checkPasst };

async function checkPasst({ platform, deadline }: CheckContext): Promise<CheckResult> {
  if (platform !== "linux") return { status: "fail", found: "passt exists on Linux only" };
  const path = findProgram("passt");
  if (path === undefined) return { status: "fail", found: "passt is not installed", remedy: SETUP_REMEDY };
  const { stdout } = await runProgram([path, "--version"], {
    timeoutMs: deadline.remainingMs,
    signal: deadline.signal,
  });
  const firstLine = stdout.split("\n", 1)[0] ?? "";
  return { status: "ok", found: firstLine.startsWith("passt unknown") ? path : firstLine };
}

/** nftables and TAP devices: the network mode that needs rights. */
export const nftCheck: HostCheck = { id: "nft", title: "nftables and TAP", requiredFor: "tap-network", run: checkNft };

async function checkNft({ platform, deadline }: CheckContext): Promise<CheckResult> {
  if (platform !== "linux") return { status: "warn", found: "TAP networking exists on Linux only" };
  const missing = ["nft", "ip"].filter((program) => findProgram(program) === undefined);
  if (missing.length > 0) {
    return { status: "warn", found: `not installed: ${missing.join(", ")}`, remedy: SETUP_REMEDY };
  }
  const why = {
    remedy: "Use the default network mode, which needs no rights. `smolvm setup` says what this one needs.",
  };
  const lacking = (["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"] as const).filter((name) => !hasCapability(name));
  if (lacking.length > 0) return { status: "warn", found: `this program lacks ${lacking.join(" and ")}`, ...why };
  try {
    await access("/dev/net/tun", constants.R_OK | constants.W_OK);
    await runProgram(["nft", "list", "tables"], { timeoutMs: deadline.remainingMs, signal: deadline.signal });
  } catch (error) {
    if (isSmolVMError(error, "ABORTED") || isSmolVMError(error, "TIMEOUT")) throw error;
    return { status: "warn", found: `refused: ${(error as Error).message}`, ...why };
  }
  return { status: "ok", found: "nft answers and /dev/net/tun opens" };
}
