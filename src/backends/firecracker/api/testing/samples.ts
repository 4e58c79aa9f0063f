// Each request that there is in requests.ts, with everything that its body can have.

import { join } from "node:path";
import type { TokenBucket } from "../bodies.js";
import * as requests from "../requests.js";

const BUCKET: TokenBucket = { size: 1_000_000, refillTime: 100, oneTimeBurst: 5 };
const LIMITER = { bandwidth: BUCKET, ops: BUCKET };

/** Files in a directory that samples name: `kernel`, `initrd` and `disk` have to be there, the others get made. */
export function sampleFiles(directory: string) {
  const files = ["kernel", "initrd", "disk", "vsock", "log", "metrics", "serial", "state", "memory", "vsock2"] as const;
  return Object.fromEntries(files.map((name) => [name, join(directory, name)])) as Record<
    (typeof files)[number],
    string
  >;
}

/** By the name of the function that makes it. */
export function samples(directory: string): Readonly<Record<string, requests.ApiRequest<unknown>>> {
  const files = sampleFiles(directory);
  return {
    getInstance: requests.getInstance(),
    getVersion: requests.getVersion(),
    getVmConfig: requests.getVmConfig(),
    putMachineConfig: requests.putMachineConfig({
      vcpuCount: 2,
      memSizeMib: 128,
      smt: false,
      trackDirtyPages: true,
      hugePages: "None",
    }),
    putBootSource: requests.putBootSource({
      kernelImagePath: files.kernel,
      initrdPath: files.initrd,
      bootArgs: "console=ttyS0",
    }),
    putDrive: requests.putDrive({
      driveId: "root_1",
      isRootDevice: true,
      pathOnHost: files.disk,
      isReadOnly: false,
      cacheType: "Writeback",
      ioEngine: "Sync",
      rateLimiter: LIMITER,
      partuuid: "0eaa91a0-01",
    }),
    patchDrive: requests.patchDrive({ driveId: "root_1", pathOnHost: files.disk, rateLimiter: LIMITER }),
    putNetworkInterface: requests.putNetworkInterface({
      ifaceId: "eth0",
      hostDevName: "smolvm-none",
      guestMac: "06:00:ac:10:00:02",
      mtu: 1_500,
      rxRateLimiter: LIMITER,
      txRateLimiter: LIMITER,
    }),
    putVsock: requests.putVsock({ guestCid: 3, udsPath: files.vsock }),
    putEntropy: requests.putEntropy({ rateLimiter: LIMITER }),
    putBalloon: requests.putBalloon({
      amountMib: 0,
      deflateOnOom: true,
      statsPollingIntervalS: 1,
      freePageHinting: false,
      freePageReporting: true,
    }),
    patchBalloon: requests.patchBalloon({ amountMib: 16 }),
    putLogger: requests.putLogger({
      logPath: files.log,
      level: "Warning",
      showLevel: true,
      showLogOrigin: false,
      module: "api_server",
    }),
    putMetrics: requests.putMetrics({ metricsPath: files.metrics }),
    putSerial: requests.putSerial({ serialOutPath: files.serial, rateLimiter: BUCKET }),
    startInstance: requests.startInstance(),
    sendCtrlAltDel: requests.sendCtrlAltDel(),
    flushMetrics: requests.flushMetrics(),
    pauseVm: requests.pauseVm(),
    resumeVm: requests.resumeVm(),
    createSnapshot: requests.createSnapshot(
      { snapshotPath: files.state, memFilePath: files.memory, snapshotType: "Full" },
      128,
    ),
    loadSnapshot: requests.loadSnapshot({
      snapshotPath: files.state,
      memBackend: { backendType: "File", backendPath: files.memory },
      trackDirtyPages: true,
      resumeVm: true,
      networkOverrides: [{ ifaceId: "eth0", hostDevName: "smolvm-other" }],
      vsockOverride: { udsPath: files.vsock2 },
      clockRealtime: false,
    }),
  };
}
