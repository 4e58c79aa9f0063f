// Networks: throughput with its price, starts, and TAP devices by the hundred; in network namespaces of their own.

import { rmSync } from "node:fs";
import { bundleIperf } from "../network/bundle.mjs";
import { makeNetwork, whyNoNamespaces } from "../network/namespaces.mjs";
import { qemuUser } from "../network/qemu-user.mjs";

/** Each takes {@link TRANSFER_SECONDS}. */
const TRANSFER_SAMPLES = 5;
const TRANSFER_SECONDS = 3;
/** Fewer would say little of the 95th percentile. */
const SET_UP_SAMPLES = 50;
const CROWD = 100;

const LABELS = { user: "user (passt)", tap: "tap", qemu: "QEMU's own user network, not used by SmolVM" };
const DIRECTIONS = ["upload", "download"];
const rateRow = (direction, key) => `iperf3 ${direction}, ${LABELS[key]}, Mbit/s`;
const costRow = (direction, key, whose) => `iperf3 ${direction}, ${LABELS[key]}, CPU of ${whose}, s/GiB`;
const keys = Object.keys(LABELS);
const each = (row) => DIRECTIONS.flatMap((direction) => keys.map((key) => row(direction, key)));
const RATES = each(rateRow);
const COSTS = each((direction, key) => costRow(direction, key, "VMM"));
const HELPER_COSTS = each((direction, key) => costRow(direction, key, "helpers"));

const READY = (mode) => `ready with network "${mode}", in turn with the others`;
const MODES = ["none", "user", "tap"];
const MORE = 'ready: "tap" more than "none"';
const [UP_ALONE, DOWN_ALONE, UP, HELPERS, DOWN, GONE] = [
  "TAP network: set-up of device and rules, alone",
  "TAP network: teardown, device gone, alone",
  "TAP network: set-up, beside the VMM that starts",
  "start of the helpers of a TAP VM",
  "TAP network: teardown, device gone",
  "TAP network: teardown, rules gone too (nobody waits)",
];
const [CROWD_UP, CROWD_DOWN] = [UP, DOWN].map((name) => `${name}, ${CROWD} at once`);
const [CROWD_CREATED, CROWD_DELETED] = ["created", "deleted"].map((what) => `${CROWD} TAP VMs ${what} at once`);

export const NETWORK = [
  { names: RATES, unit: "Mbit/s", needs: needsIperf, measure: measureRates },
  { names: COSTS, unit: "s/GiB", needs: needsIperf, measure: measureCosts },
  { names: HELPER_COSTS, unit: "s/GiB", needs: needsIperf, measure: measureCosts },
  { names: [...MODES.map(READY), MORE], needs: whyNoNamespaces, measure: measureStarts },
  { names: [UP_ALONE, DOWN_ALONE, UP, HELPERS, DOWN, GONE], needs: whyNoNamespaces, measure: measureSetUps },
  { names: [CROWD_CREATED, CROWD_DELETED, CROWD_UP, CROWD_DOWN], needs: whyNoNamespaces, measure: measureCrowd },
];

function needsIperf() {
  const reason = whyNoNamespaces();
  if (reason !== undefined) return reason;
  const bundle = bundleIperf();
  if (bundle === undefined) return '"iperf3" is not there';
  rmSync(bundle, { recursive: true });
  return undefined;
}

/** Rates and costs come out of the same transfers, which are made once. */
let transfers;

async function measureRates(options) {
  return select(await transfersOf(options), RATES);
}

async function measureCosts(options) {
  const all = await transfersOf(options);
  return select(all, [...COSTS, ...HELPER_COSTS]);
}

function select(all, names) {
  return Object.fromEntries(names.map((name) => [name, all[name]]));
}

async function transfersOf(options) {
  transfers ??= await measureTransfers(options);
  return transfers;
}

/** All networks in turn, so that what else the machine does hits them alike. */
async function measureTransfers({ stateDir, samples }) {
  const taken = Object.fromEntries([...RATES, ...COSTS, ...HELPER_COSTS].map((name) => [name, []]));
  const bundle = bundleIperf();
  const other = qemuUser();
  const network = makeNetwork();
  const vms = {};
  try {
    network.serve(["iperf3", "-s"]);
    for (const key of keys) {
      const [mode, env] = key === "qemu" ? ["user", other.env] : [key, {}];
      vms[key] = await network.inside({ what: "create", stateDir, network: mode, bundle }, env);
    }
    for (let i = 0; i < Math.min(samples, TRANSFER_SAMPLES); i++) {
      for (const direction of DIRECTIONS) {
        for (const key of keys) {
          const order = { what: "transfer", stateDir, vmId: vms[key], direction, seconds: TRANSFER_SECONDS };
          const { mbps, vmm, helpers } = await network.inside(order);
          taken[rateRow(direction, key)].push(mbps);
          taken[costRow(direction, key, "VMM")].push(vmm);
          taken[costRow(direction, key, "helpers")].push(helpers);
        }
      }
    }
  } finally {
    const vmIds = Object.values(vms);
    if (vmIds.length > 0) await network.inside({ what: "remove", stateDir, vmIds }).catch(() => {});
    network.end();
    other.end();
    rmSync(bundle, { recursive: true });
  }
  return taken;
}

async function measureStarts({ stateDir, samples }) {
  return withNetwork(async (inside) => {
    const ready = await inside({ what: "starts", stateDir, modes: MODES, samples });
    const more = ready.tap.map((ms, i) => ms - ready.none[i]);
    return { ...Object.fromEntries(MODES.map((mode) => [READY(mode), ready[mode]])), [MORE]: more };
  });
}

async function measureSetUps({ stateDir, samples }) {
  return withNetwork(async (inside) => {
    const count = Math.max(samples, SET_UP_SAMPLES);
    const { upAlone, downAlone, up, helpers, down, gone } = await inside({ what: "setUps", stateDir, samples: count });
    return { [UP_ALONE]: upAlone, [DOWN_ALONE]: downAlone, [UP]: up, [HELPERS]: helpers, [DOWN]: down, [GONE]: gone };
  });
}

async function measureCrowd({ stateDir }) {
  return withNetwork(async (inside) => {
    const { createMs, deleteMs, up, down } = await inside({ what: "crowd", stateDir, count: CROWD });
    return { [CROWD_CREATED]: createMs, [CROWD_DELETED]: deleteMs, [CROWD_UP]: up, [CROWD_DOWN]: down };
  });
}

async function withNetwork(use) {
  const network = makeNetwork();
  try {
    return await use(network.inside);
  } finally {
    network.end();
  }
}
