// Runs mmdebstrap so that it cannot outlive us, and reports its progress lines.

import { access } from "node:fs/promises";
import type { BuildContext } from "./build-context.js";
import { isRoot } from "./build-tools.js";
import { runHostTool } from "./host-tool.js";

/** Debian's archive keys; Ubuntu has them in a package, too, but not among apt's trusted ones. */
const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** What one run installs and where its tar archive goes. */
export interface MmdebstrapRun {
  readonly step: string;
  /** `extract` unpacks packages and runs none of their scripts; `apt` gives a working system. */
  readonly variant: "extract" | "apt";
  readonly packages: readonly string[];
  readonly leaveOut?: readonly string[];
  readonly target: string;
}

/** Makes a tar archive of a Debian file tree. */
export async function runMmdebstrap(run: MmdebstrapRun, context: BuildContext): Promise<void> {
  const hasKeyring = await access(DEBIAN_KEYRING).then(
    () => true,
    () => false,
  );
  const argv = mmdebstrapArgv(run, context, hasKeyring ? DEBIAN_KEYRING : undefined);
  await runHostTool([...launcherArgv(isRoot()), ...argv], context.deadline, {
    env: isRoot() ? { TMPDIR: context.workDir } : {},
    onStderrLine: (line) => {
      const detail = /^I: (.+)/.exec(line)?.[1];
      if (detail !== undefined) context.onProgress({ step: run.step, detail });
    },
  });
}

/** The argument vector of one run; pure. */
export function mmdebstrapArgv(
  run: MmdebstrapRun,
  { recipe, architecture, mirror }: Pick<BuildContext, "recipe" | "architecture" | "mirror">,
  keyring: string | undefined,
): string[] {
  return [
    "mmdebstrap",
    `--mode=${isRoot() ? "root" : "unshare"}`,
    "--format=tar",
    `--variant=${run.variant}`,
    `--architectures=${architecture.debianName}`,
    `--include=${run.packages.join(",")}`,
    '--aptopt=APT::Install-Recommends "false"',
    ...(run.leaveOut ?? []).map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    // With a keyring given there is nothing to find out, and no gpg home to leave behind in /tmp.
    ...(keyring === undefined ? [] : [`--keyring=${keyring}`, "--skip=check/signed-by"]),
    recipe.suite,
    run.target,
    ...(mirror === undefined ? [] : [mirror]),
  ];
}

/**
 * What goes before mmdebstrap so that it dies with us, even of our SIGKILL.
 *
 * As root its work directory is in our staging directory, so the kernel may end it and all its children at
 * once. For an ordinary user that directory belongs to a subordinate uid, in /tmp, and only mmdebstrap itself
 * can remove it: it gets SIGTERM, on which it does so at the end of its current step, within a minute.
 */
function launcherArgv(asRoot: boolean): string[] {
  if (!asRoot) return ["setpriv", "--pdeathsig", "TERM", "--"];
  return ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--"];
}
