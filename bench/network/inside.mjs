// Runs in the "host" namespace of namespaces.mjs. Argument: JSON of { what, stateDir, ... }; prints one line of JSON.

import { execFileSync } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Deadline } from "../../dist/base/deadline.js";
import { PHASE_CHANNEL, SmolVM } from "../../dist/index.js";
import { TAP_LEASES } from "../../dist/network/tap/addresses.js";
import { TapNetworks } from "../../dist/network/tap/tap-networks.js";
import { LeaseStore } from "../../dist/storage/lease-store.js";
import { timed } from "../stats.mjs";
import { SERVER } from "./namespaces.mjs";

/** Where bundle.mjs put iperf3 in a guest. */
const BUNDLE = "/opt/iperf3";
/** The unit of times in /proc/PID/stat (proc(5)); 100 on every Linux of today. */
const TICKS_PER_SECOND = Number(execFileSync("getconf", ["CLK_TCK"]));
const GIB_BYTES = 2 ** 30;
const HELPERS = /^(netguard|passt|tapguard|portd)/;
const options = JSON.parse(process.argv[2]);
const { stateDir } = options;

/** Makes a VM that stays, with iperf3 in it. */
async function create({ network, bundle }) {
  const created = await SmolVM.create({ stateDir, network });
  const vm = await SmolVM.fromId(created.vmId, { stateDir });
  await vm.upload(bundle, BUNDLE);
  return created.vmId;
}

async function remove({ vmIds }) {
  for (const vmId of vmIds) await (await SmolVM.fromId(vmId, { stateDir })).delete();
  return true;
}

/** One transfer. CPU in seconds for each GiB; of the kernel's own work only what it does in these processes' name. */
async function transfer({ vmId, direction, seconds }) {
  const vm = await SmolVM.fromId(vmId, { stateDir });
  const { pid } = await vm.info();
  const before = { vmm: cpuSeconds(pid), helpers: helperSeconds() };
  const client = ["-c", SERVER, "-J", "-t", String(seconds), ...(direction === "download" ? ["-R"] : [])];
  const loader = [`${BUNDLE}/ld.so`, "--library-path", BUNDLE, `${BUNDLE}/iperf3`];
  const { stdout } = await vm.exec([...loader, ...client], { check: true });
  const { end } = JSON.parse(stdout);
  const gib = end.sum_received.bytes / GIB_BYTES;
  return {
    mbps: end.sum_received.bits_per_second / 1e6,
    vmm: (cpuSeconds(pid) - before.vmm) / gib,
    helpers: (helperSeconds() - before.helpers) / gib,
  };
}

function cpuSeconds(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND; // utime and stime.
}

/** Of all guards and passts of this namespace: those of VMs that rest use nothing. */
function helperSeconds() {
  const own = readNamespace("self");
  let sum = 0;
  for (const pid of readdirSync("/proc")) {
    try {
      if (!HELPERS.test(readFileSync(`/proc/${pid}/comm`, "utf8")) || readNamespace(pid) !== own) continue;
      sum += cpuSeconds(pid);
    } catch {
      // It ended, or is no process.
    }
  }
  return sum;
}

function readNamespace(pid) {
  return execFileSync("readlink", [`/proc/${pid}/ns/net`], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}

/** Starts from the template, each mode in turn: to the first command's output, and the deletion. */
/** What the kernel and nft still remove of the last VM is not the next one's time, in milliseconds. */
const QUIET_MS = 100;

async function starts({ modes, samples }) {
  const ready = Object.fromEntries(modes.map((mode) => [mode, []]));
  for (const network of modes) await (await SmolVM.create({ stateDir, network })).delete();
  for (let i = 0; i < samples; i++) {
    for (const network of modes) {
      const [vm, ms] = await timed(async () => {
        const made = await SmolVM.create({ stateDir, network });
        await made.exec(["true"], { check: true });
        return made;
      });
      ready[network].push(ms);
      await vm.delete();
      await sleep(QUIET_MS);
    }
  }
  return ready;
}

/**
 * Times what the library itself calls: device and rules of one VM, made and removed, and the whole phase of the start
 * that they are in, with the guard and the log keeper.
 */
function watchNetworks() {
  const found = { up: [], helpers: [], down: [], gone: [] };
  const { begin, tearDown } = TapNetworks.prototype;
  TapNetworks.prototype.begin = async function (...args) {
    const [made, ms] = await timed(() => begin.apply(this, args));
    // Between the two steps the guard starts, which is not counted here.
    let sum = ms;
    const step = (run) => async () => {
      const [, more] = await timed(run);
      sum += more;
    };
    const open = async () => {
      await step(made.open)();
      found.up.push(sum);
    };
    return { ...made, enforce: step(made.enforce), open };
  };
  TapNetworks.prototype.tearDown = async function (owner, deadline) {
    const isThere = this.addressesOf(owner) !== undefined;
    const started = performance.now();
    await tearDown.call(this, owner, deadline);
    if (!isThere) return;
    found.down.push(performance.now() - started);
    void this.settled().then(() => found.gone.push(performance.now() - started));
  };
  subscribe(PHASE_CHANNEL, ({ operation, phase, durationMs }) => {
    if (operation === "start" && phase === "helpers") found.helpers.push(durationMs);
  });
  return found;
}

async function setUps({ samples }) {
  await (await SmolVM.create({ stateDir, network: "tap" })).delete();
  const alone = await setUpsAlone(samples); // Before others are watched.
  const found = watchNetworks();
  for (let i = 0; i < samples; i++) {
    await (await SmolVM.create({ stateDir, network: "tap" })).delete();
    while (found.gone.length <= i) await sleep(5);
  }
  return { ...found, ...alone };
}

/** Device and rules while no VM starts beside them: with one, they share the processors with its VMM. */
async function setUpsAlone(samples) {
  const networks = new TapNetworks(new LeaseStore(`${stateDir}/alone`, { leases: TAP_LEASES }));
  const soon = () => Deadline.after(60_000);
  const owner = { stateDir, vmId: "alone" };
  const policy = { mode: "open", names: [], networks: [] };
  const request = { owner, policy, macAddress: "02:00:00:00:00:02", ownerUid: 0, hostNetworks: [] };
  const found = { upAlone: [], downAlone: [] };
  for (let i = 0; i < samples; i++) {
    found.upAlone.push((await timed(() => networks.setUp(request, soon())))[1]);
    found.downAlone.push((await timed(() => networks.tearDown(owner, soon())))[1]);
    await networks.settled();
    await sleep(QUIET_MS);
  }
  return found;
}

/** So many VMs alive at once, made and deleted together. */
async function crowd({ count }) {
  const all = Array.from({ length: count });
  await (await SmolVM.create({ stateDir, network: "tap" })).delete();
  const found = watchNetworks();
  const [vms, createMs] = await timed(() => Promise.all(all.map(() => SmolVM.create({ stateDir, network: "tap" }))));
  await Promise.all(vms.map((vm) => vm.exec(["true"], { check: true })));
  const [, deleteMs] = await timed(() => Promise.all(vms.map((vm) => vm.delete())));
  return { createMs: [createMs], deleteMs: [deleteMs], up: found.up, down: found.down };
}

const work = { create, remove, transfer, starts, setUps, crowd };
process.stdout.write(`${JSON.stringify(await work[options.what](options))}\n`);
