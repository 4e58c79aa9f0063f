// Which option sets which field of the library, so that its complaints can be put in the user's words.

const OPTIONS: Readonly<Record<string, string>> = {
  vmId: "--id",
  vcpuCount: "--vcpus",
  memSizeMib: "--memory",
  image: "--image",
  diskMode: "--disk-mode",
  diskSizeMib: "--disk-size",
  kernelPath: "--kernel",
  initrdPath: "--initrd",
  rootfsPath: "--rootfs",
  bootArgs: "--boot-args",
  backend: "--backend",
  accel: "--accel",
  network: "--network",
  ports: "--port",
  hostAddress: "--host-address",
  envVars: "--env",
  env: "--env",
  bootTimeoutMs: "--boot-timeout",
  cwd: "--cwd",
  user: "--user",
  timeoutMs: "--timeout",
  count: "--count",
  name: "--name",
};

/** Fields inside others that have an option of their own. */
const NESTED_OPTIONS: Readonly<Record<string, string>> = {
  "network.egress.allow": "--allow",
  "network.egress": "--egress",
  "network.rateLimitMbps": "--rate-limit",
  "egress.allow": "--allow",
};

/** @param field As an error names it, e.g. `"ports[0].guest"`. @returns The option, if it is set by one. */
export function optionOfField(field: string): string | undefined {
  if (field.startsWith("--")) return field;
  const nested = Object.entries(NESTED_OPTIONS).find(([prefix]) => field.startsWith(prefix));
  return nested?.[1] ?? OPTIONS[field.split(/[.[]/)[0] ?? ""];
}
