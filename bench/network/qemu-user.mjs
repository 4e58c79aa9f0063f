// QEMU's own user network, which SmolVM does not use, only to compare: a script in front of QEMU that exchanges the
// netdev. The rest of the machine is the same.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

/** @returns Environment for the program that is to start such a machine; `end()` removes the script. */
export function qemuUser() {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-qemu-user-"));
  const real = execFileSync("sh", ["-c", "command -v qemu-system-x86_64"], { encoding: "utf8" }).trim();
  // The addresses of network mode "user", so that the guest is configured for it.
  const netdev = "user,id=net0,net=10.187.0.0/18,host=10.187.0.2,dns=10.187.0.3,ipv6=off";
  const script = `#!/bin/bash
arguments=()
for argument in "$@"; do
  case $argument in stream,id=net0,*) argument=${netdev} ;; esac
  arguments+=("$argument")
done
exec ${real} "\${arguments[@]}"
`;
  writeFileSync(join(directory, basename(real)), script, { mode: 0o755 });
  return {
    env: { PATH: `${directory}:${process.env.PATH}` },
    end: () => rmSync(directory, { recursive: true }),
  };
}
