// Network interfaces, for which the VMM makes TAP devices: as root, in a network of its own.

import { putNetworkInterface } from "../requests.js";
import { asSent } from "./send.js";
import { refused, type Step, taken } from "./sequences.js";

export function networkSequence(): readonly Step[] {
  const nic = (ifaceId: string, hostDevName: string, guestMac?: string) =>
    putNetworkInterface({ ifaceId, hostDevName, guestMac });
  const [mac, other] = ["06:00:ac:10:00:02", "06:00:ac:10:00:03"];
  return [
    ...[nic("a", "tapa"), nic("a", "tapa", mac), nic("b", "tapb", other), nic("c", "x".repeat(15))].map(taken),
    ...[nic("b", "tapb", mac), nic("b", "tapa", other), nic("d", "x".repeat(16)), nic("d", "tap/d")].map(refused),
    ...[nic("d", "tapd", "06-00-ac-10-00-04"), nic("a-b", "tapd")].map(refused),
    { request: { ...asSent(nic("d", "tapd")), path: "/network-interfaces/e" }, isTaken: false },
    taken(putNetworkInterface({ ifaceId: "d", hostDevName: "tapd", mtu: 68 })),
    refused(putNetworkInterface({ ifaceId: "d", hostDevName: "tapd", mtu: 67 })),
  ];
}
