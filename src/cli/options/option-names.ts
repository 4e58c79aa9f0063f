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
  envVars: "--env",
  env: "--env",
  bootTimeoutMs: "--boot-timeout",
  cwd: "--cwd",
  user: "--user",
  timeoutMs: "--timeout",
  count: "--count",
  name: "--name",
};

/** @param field As an error names it, e.g. `"ports[0].guest"`. @returns The option, if it is set by one. */
export function optionOfField(field: string): string | undefined {
  return field.startsWith("--") ? field : OPTIONS[field.split(/[.[]/)[0] ?? ""];
}
