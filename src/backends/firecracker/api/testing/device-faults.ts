// Why Firecracker would refuse a device whose body is as described. Facts from its src/vmm/src/vmm_config and devices.

import { openFault } from "./host-files.js";
import type { Body } from "./machine.js";
import { DEVICE_NAME_LIMIT_BYTES, MAC_ADDRESS } from "./rules.js";

/** machine_config.rs: MachineConfig::update; resources.rs: update_machine_config. */
export function machineFault(body: Body, balloon: Body | undefined): string | undefined {
  const [vcpus, memory] = [Number(body["vcpu_count"]), Number(body["mem_size_mib"])];
  if (body["smt"] === true && vcpus > 1 && vcpus % 2 === 1) return "an odd number of vCPUs with SMT";
  if (body["huge_pages"] === "2M" && memory % 2 === 1) return "memory is no multiple of its pages";
  return memory < Number(balloon?.["amount_mib"] ?? 0) ? "memory is less than the balloon" : undefined;
}

/** drive.rs: BlockBuilder::insert; devices/virtio/block: VirtioBlockConfig. Disks over vhost-user are not done here. */
export function driveFault(body: Body, drives: ReadonlyMap<string, Body>): string | undefined {
  if (body["path_on_host"] === undefined || "socket" in body) return "it needs a path, and no socket";
  const others = [...drives.values()].filter((drive) => drive["drive_id"] !== body["drive_id"]);
  if (body["is_root_device"] === true && others.some((drive) => drive["is_root_device"] === true)) {
    return "there is a root device already";
  }
  return openFault(body["path_on_host"], body["is_read_only"] === true ? "r" : "r+");
}

/** net.rs: NetBuilder::build; devices/virtio/net/tap.rs. A TAP device has one user. */
export function networkFault(body: Body, networks: ReadonlyMap<string, Body>): string | undefined {
  const { guest_mac: mac, host_dev_name: name } = body;
  if (mac !== undefined && !MAC_ADDRESS.test(String(mac))) return "no MAC address";
  if (Buffer.byteLength(String(name)) > DEVICE_NAME_LIMIT_BYTES || String(name).includes("/")) return "no device name";
  const others = [...networks.values()].filter((nic) => nic["iface_id"] !== body["iface_id"]);
  if (others.some((nic) => nic["host_dev_name"] === name)) return "the device is taken";
  const sameMac = (nic: Body) => String(nic["guest_mac"]).toLowerCase() === String(mac).toLowerCase();
  return mac !== undefined && others.some(sameMac) ? "the MAC address is taken" : undefined;
}
