// The network that the figures of rows/network.mjs are taken in: a "host" namespace, in which SmolVM runs, and a server
// behind it. Nothing of this machine's own network is used or touched. Root only.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Where iperf3 serves. */
export const SERVER = "203.0.113.7";
const INSIDE = join(import.meta.dirname, "inside.mjs");

/** Why it cannot be made here; `undefined` when it can. */
export function whyNoNamespaces() {
  if (process.platform !== "linux" || process.getuid() !== 0) return "network namespaces need root on Linux";
  for (const [program, flag] of [
    ["ip", "-V"],
    ["nft", "--version"],
  ]) {
    try {
      execFileSync(program, [flag], { stdio: "ignore" });
    } catch {
      return `"${program}" does not run`;
    }
  }
  return undefined;
}

/** Both namespaces; gone with `end()`. */
export function makeNetwork() {
  const names = { host: `svmbench-h-${process.pid}`, outside: `svmbench-o-${process.pid}` };
  const configuration = join("/etc/netns", names.host);
  const children = [];
  const batch = (name, lines) => execFileSync("ip", ["-n", name, "-batch", "-"], { input: `${lines.join("\n")}\n` });
  mkdirSync(configuration, { recursive: true });
  writeFileSync(join(configuration, "resolv.conf"), `nameserver ${SERVER}\n`);
  for (const name of Object.values(names)) execFileSync("ip", ["netns", "add", name]);
  batch(names.host, [
    "link set lo up",
    `link add up0 type veth peer name down0 netns ${names.outside}`,
    "address add 192.0.2.10/24 dev up0",
    "link set up0 up",
  ]);
  batch(names.outside, [
    "link set lo up",
    "address add 192.0.2.1/24 dev down0",
    `address add ${SERVER}/32 dev lo`,
    "link set down0 up",
  ]);
  batch(names.host, ["route add default via 192.0.2.1"]);
  return {
    /** Starts a program on the server's side. */
    serve(argv) {
      children.push(spawn("ip", ["netns", "exec", names.outside, ...argv], { stdio: "ignore" }));
    },
    /**
     * Has inside.mjs do something in the "host" namespace.
     *
     * @returns What it found.
     */
    inside: (options, env = {}) => runInside(names.host, options, env),
    end() {
      for (const child of children) child.kill("SIGKILL");
      for (const name of Object.values(names)) execFileSync("ip", ["netns", "del", name]);
      rmSync(configuration, { recursive: true });
    },
  };
}

async function runInside(name, options, env) {
  const argv = ["netns", "exec", name, process.execPath, INSIDE, JSON.stringify(options)];
  const child = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } });
  let result;
  for await (const line of createInterface({ input: child.stdout })) result = JSON.parse(line);
  if (result === undefined) throw new Error(`"${options.what}" found nothing inside the namespace`);
  return result;
}
