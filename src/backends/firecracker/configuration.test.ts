import { describe, expect, test } from "vitest";
import type { ApiRequest } from "./api/requests.js";
import { faultOf } from "./api/testing/check-body.js";
import { findRequest } from "./api/testing/description.js";
import { asSent } from "./api/testing/send.js";
import { bareRequests, startRequests } from "./configuration.js";
import { PLATFORMS } from "./platform.js";
import { machineIn, scratch } from "./testing/machines.js";

const macAddress = "02:00:00:00:00:02";
const tap = { link: { kind: "tap" as const, device: "svm7" }, macAddress };
const image = { from: "image" as const, path: "/m", devicesPath: "/d" };

function sent(requests: readonly ApiRequest[]) {
  for (const request of requests) {
    const { method, path, body } = asSent(request);
    const described = findRequest(method, path)?.described;
    expect(described, `${method} ${path}`).toBeDefined();
    expect(faultOf(body, described!.body!), `${method} ${path}`).toBeUndefined();
  }
  return requests.map(asSent);
}

test("a machine that boots, request by request", () => {
  const machine = machineIn(scratch(), { network: tap });
  expect(sent(startRequests(machine, PLATFORMS.x86_64))).toEqual([
    {
      method: "PUT",
      path: "/machine-config",
      body: { vcpu_count: 2, mem_size_mib: 128, track_dirty_pages: false },
    },
    {
      method: "PUT",
      path: "/boot-source",
      body: {
        kernel_image_path: "kernel",
        initrd_path: "initrd",
        boot_args: expect.stringMatching(/^console=ttyS0 .* smolvm\.root=\/dev\/vda$/),
      },
    },
    {
      method: "PUT",
      path: "/drives/root",
      body: { drive_id: "root", is_root_device: false, path_on_host: "disk", cache_type: "Writeback" },
    },
    { method: "PUT", path: "/vsock", body: { guest_cid: 3, uds_path: "vsock" } },
    { method: "PUT", path: "/entropy", body: {} },
    {
      method: "PUT",
      path: "/network-interfaces/net0",
      body: { iface_id: "net0", host_dev_name: "svm7", guest_mac: macAddress },
    },
    { method: "PUT", path: "/actions", body: { action_type: "InstanceStart" } },
  ]);
});

test("paths of a VM's own are never sent: what is frozen finds its clone's files", () => {
  const directory = scratch();
  const requests = [
    ...startRequests(machineIn(directory), PLATFORMS.x86_64),
    ...startRequests(machineIn(directory, { memory: image }), PLATFORMS.x86_64),
  ];
  expect(JSON.stringify(requests)).not.toContain(directory);
});

describe("networks", () => {
  const nics = (network: typeof tap | { link: undefined; macAddress: string } | undefined) =>
    sent(startRequests(machineIn(scratch(), { network }), PLATFORMS.x86_64)).filter(({ path }) =>
      path.startsWith("/network-interfaces"),
    );

  test("none means no device at all", () => {
    expect(nics(undefined)).toEqual([]);
  });

  test("one without a link is a device that the VMM makes the other end of", () => {
    expect(nics({ link: undefined, macAddress })).toMatchObject([{ body: { host_dev_name: "unplugged" } }]);
  });
});

describe("memory", () => {
  test("that is recorded has a record of the pages that were written to", () => {
    const memory = { from: "recording" as const, path: "/t/memory" };
    const [first] = startRequests(machineIn(scratch(), { memory }), PLATFORMS.x86_64);
    expect(first?.body).toMatchObject({ trackDirtyPages: true });
  });

  test("from an image is loaded, and the guest runs after that", () => {
    expect(sent(startRequests(machineIn(scratch(), { memory: image, network: tap }), PLATFORMS.x86_64))).toEqual([
      {
        method: "PUT",
        path: "/snapshot/load",
        body: {
          snapshot_path: "devices",
          mem_backend: { backend_type: "File", backend_path: "memory" },
          network_overrides: [{ iface_id: "net0", host_dev_name: "svm7" }],
        },
      },
      { method: "PATCH", path: "/vm", body: { state: "Resumed" } },
    ]);
  });

  test("from an image without a network overrides none", () => {
    const [load] = sent(startRequests(machineIn(scratch(), { memory: image }), PLATFORMS.x86_64));
    expect(load?.body).not.toHaveProperty("network_overrides");
  });
});

test("a bare machine has a kernel and nothing else", () => {
  expect(sent(bareRequests(256, "probe")).map(({ path }) => path)).toEqual([
    "/machine-config",
    "/boot-source",
    "/actions",
  ]);
});
