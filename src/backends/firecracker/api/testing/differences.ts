// Where the description and the program differ. The double is always the stricter of the two; what SmolVM sends is
// taken by both.

import { join } from "node:path";
import * as requests from "../requests.js";
import { sampleFiles } from "./samples.js";
import { asSent, type WireRequest } from "./send.js";

export interface Difference {
  readonly what: string;
  readonly request: WireRequest;
}

/** Taken by the program, though the description forbids it, or does not know it. The double refuses. */
export function laxerThanDescribed(directory: string): readonly Difference[] {
  const files = sampleFiles(directory);
  const machine = asSent(requests.putMachineConfig({ vcpuCount: 1, memSizeMib: 128 }));
  const entropy = asSent(requests.putEntropy());
  const bucket = { size: 1, refill_time: 1 };
  return [
    { what: "a CID that has a meaning", request: asSent(requests.putVsock({ guestCid: 2, udsPath: files.vsock })) },
    {
      what: "an unknown property of metrics",
      request: { method: "PUT", path: "/metrics", body: { metrics_path: files.metrics, x: 1 } },
    },
    {
      what: "an unknown property of a bucket",
      request: { ...entropy, body: { rate_limiter: { ops: { ...bucket, x: 1 } } } },
    },
    { what: "null for what may be left out", request: { ...entropy, body: { rate_limiter: null } } },
    { what: "values in the order of their names", request: { ...machine, body: [1, 128] } },
    { what: "more path than there is", request: { ...machine, path: `${machine.path}/more` } },
    { what: "a level in lower case", request: { method: "PUT", path: "/logger", body: { level: "error" } } },
    { what: "a level of another name", request: { method: "PUT", path: "/logger", body: { level: "Warn" } } },
    {
      what: "null for a file",
      request: { method: "PUT", path: "/serial", body: { serial_out_path: null } },
    },
  ];
}

/** Refused by the program and by the double, though the description allows it. */
export function stricterThanDescribed(directory: string): readonly Difference[] {
  const files = sampleFiles(directory);
  const machine = asSent(requests.putMachineConfig({ vcpuCount: 1, memSizeMib: 128 }));
  const balloon = { amount_mib: 0, deflate_on_oom: true };
  return [
    { what: "a machine without a body", request: { method: "PUT", path: "/machine-config" } },
    { what: "no memory", request: { ...machine, body: { vcpu_count: 1, mem_size_mib: 0 } } },
    { what: "a balloon before the start", request: { method: "PATCH", path: "/balloon", body: { amount_mib: 0 } } },
    {
      what: "a drive without a file",
      request: { method: "PUT", path: "/drives/a", body: { drive_id: "a", is_root_device: false } },
    },
    {
      what: "an interval of more than 16 bits",
      request: { method: "PUT", path: "/balloon", body: { ...balloon, stats_polling_interval_s: 65_536 } },
    },
    {
      what: "a balloon of more than 32 bits",
      request: { method: "PUT", path: "/balloon", body: { ...balloon, amount_mib: 2 ** 32 } },
    },
    {
      what: "a CID of more than 32 bits",
      request: { method: "PUT", path: "/vsock", body: { guest_cid: 2 ** 32, uds_path: join(directory, "v") } },
    },
    {
      what: "a snapshot without memory",
      request: { method: "PUT", path: "/snapshot/load", body: { snapshot_path: files.state } },
    },
    {
      what: "an id with a hyphen",
      request: {
        method: "PUT",
        path: "/drives/a-b",
        body: { drive_id: "a-b", is_root_device: false, path_on_host: files.disk },
      },
    },
  ];
}
