// Are the programs there that build the default image?

import { existsSync } from "node:fs";
import { findProgram } from "../find-program.js";
import { type CheckContext, type CheckResult, type HostCheck, SETUP_REMEDY } from "./check.js";

/** Programs that the image room starts. */
const PROGRAMS = ["mmdebstrap", "mke2fs", "tar", "zstd", "xz"];
/** Debian's signing keys, which Ubuntu does not have by itself. */
export const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** Programs and keys for image builds. */
export const imageToolsCheck: HostCheck = {
  id: "image-tools",
  title: "Image tools",
  requiredFor: "image-build",
  run: checkImageTools,
};

async function checkImageTools({ platform }: CheckContext): Promise<CheckResult> {
  if (platform !== "linux") return { status: "fail", found: "images are built on Linux only" };
  const missing = [
    ...PROGRAMS.filter((program) => findProgram(program) === undefined),
    ...(existsSync(DEBIAN_KEYRING) ? [] : [DEBIAN_KEYRING]),
  ];
  if (missing.length > 0) return { status: "fail", found: `missing: ${missing.join(", ")}`, remedy: SETUP_REMEDY };
  return { status: "ok", found: `${PROGRAMS.join(", ")} and Debian's keyring` };
}
