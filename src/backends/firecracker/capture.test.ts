import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import type { CaptureSource, MachineDisk } from "../backend.js";
import { firecrackerDouble } from "./api/testing/firecracker-double.js";
import { captureMachine } from "./capture.js";
import { freezeMachine } from "./freeze.js";
import { apiSocket, recordingLink, vmmDirectory } from "./places.js";
import { machineIn, scratch, soon } from "./testing/machines.js";

/** A running machine of the double's, and where a capture of it is to be. */
async function running() {
  const directory = scratch();
  const { runtimeDir, disk } = machineIn(directory);
  mkdirSync(vmmDirectory(runtimeDir));
  const double = await firecrackerDouble(apiSocket(runtimeDir));
  onTestFinished(() => double.end());
  double.machine.state = "Running";
  const source: CaptureSource = {
    ...{ pid: process.pid, runtimeDir, memSizeMib: 128, memoryBasePath: undefined, copierPath: "" },
    disk: disk as Extract<MachineDisk, { mode: "isolated" }>,
  };
  const out = join(directory, "out");
  mkdirSync(out);
  const target = {
    memoryPath: join(out, "memory"),
    devicesPath: join(out, "devices"),
    layerPath: join(out, "disk"),
  };
  const paths = () => double.heard.map(({ method, path, body }) => `${method} ${path} ${stateIn(body)}`.trim());
  return { double, runtimeDir, source, target, out, paths };
}

const stateIn = (body: unknown) => (body as { state?: string } | undefined)?.state ?? "";

describe("a capture", () => {
  test("holds memory, devices and disk of a machine that goes on", async () => {
    const { double, source, target, out, paths } = await running();
    const said: string[] = [];
    const quiesce = async () => {
      said.push(`quiet while ${double.machine.state}`);
      return async () => void said.push(`loud while ${double.machine.state}`);
    };
    const captured = await captureMachine({ ...source, quiesce }, target, soon());
    expect(readdirSync(out).sort()).toEqual(["devices", "disk", "memory"]);
    for (const path of Object.values(target)) expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(target.memoryPath).size).toBe(128 * 2 ** 20);
    expect(readFileSync(target.layerPath, "utf8")).toBe("disk");
    expect(said).toEqual(["quiet while Running", "loud while Running"]);
    expect(paths()).toEqual(["GET /", "PATCH /vm Paused", "PUT /snapshot/create", "PATCH /vm Resumed"]);
    expect(captured.quietMs).toBeGreaterThanOrEqual(captured.pauseMs);
  });

  test("of a paused machine leaves it paused, and disturbs nobody", async () => {
    const { double, source, target, paths } = await running();
    double.machine.state = "Paused";
    const quiesce = () => Promise.reject(new RangeError("it stands still already"));
    await captureMachine({ ...source, quiesce }, target, soon());
    expect(double.machine.state).toBe("Paused");
    expect(paths()).toEqual(["GET /", "PUT /snapshot/create"]);
  });

  test.each(["memoryPath", "devicesPath", "layerPath"] as const)("touches no %s that is there", async (which) => {
    const { double, source, target, out } = await running();
    writeFileSync(target[which], "mine");
    let isLoud = false;
    const quiesce = async () => async () => {
      isLoud = true;
    };
    const failed = captureMachine({ ...source, quiesce }, target, soon());
    await expect(failed).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect(readFileSync(target[which], "utf8")).toBe("mine");
    expect(readdirSync(out)).toHaveLength(1);
    expect(double.machine.state).toBe("Running");
    expect(isLoud).toBe(which === "layerPath"); // The others are found before anything stands still.
  });

  test("that fails leaves no file, and the machine goes on", async () => {
    const { double, source, target, out, paths } = await running();
    const disk = { ...source.disk, path: join(out, "gone") };
    const failed = captureMachine({ ...source, disk }, target, soon());
    await expect(failed).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect(readdirSync(out)).toEqual([]);
    expect(double.machine.state).toBe("Running");
    expect(paths().at(-1)).toBe("PATCH /vm Resumed");
  });

  test("that is given up while it stands still does so too", async () => {
    const { double, source, target, out } = await running();
    const aborted = new AbortController();
    const quiesce = async () => {
      aborted.abort();
      return async () => {};
    };
    const failed = captureMachine({ ...source, quiesce }, target, Deadline.after(10_000, aborted.signal));
    await expect(failed).rejects.toMatchObject({ code: "ABORTED" });
    expect(readdirSync(out)).toEqual([]);
    expect(double.machine.state).toBe("Running");
  });

  test("of a VMM that is gone fails and leaves nothing", async () => {
    const { double, source, target, out } = await running();
    await double.end();
    await expect(captureMachine(source, target, soon())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(readdirSync(out)).toEqual([]);
  });
});

describe("freezing", () => {
  test("makes an image of a machine whose memory is recorded, and leaves it paused", async () => {
    const { double, runtimeDir, target, out } = await running();
    writeFileSync(target.memoryPath, "", { mode: 0o600 });
    symlinkSync(target.memoryPath, recordingLink(runtimeDir));
    await freezeMachine(runtimeDir, target.devicesPath, soon());
    expect(readdirSync(out).sort()).toEqual(["devices", "memory"]);
    for (const name of ["devices", "memory"]) expect(statSync(join(out, name)).mode & 0o777).toBe(0o600);
    expect(statSync(target.memoryPath).size).toBe(128 * 2 ** 20);
    expect(double.machine.state).toBe("Paused");
    expect(double.heard.at(-1)?.body).toMatchObject({ snapshot_type: "Diff" });
  });

  test("touches no devices that are there", async () => {
    const { double, runtimeDir, target } = await running();
    symlinkSync(target.memoryPath, recordingLink(runtimeDir));
    writeFileSync(target.devicesPath, "mine");
    const failed = freezeMachine(runtimeDir, target.devicesPath, soon());
    await expect(failed).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect(readFileSync(target.devicesPath, "utf8")).toBe("mine");
    expect(double.machine.state).toBe("Running");
  });

  test("of another machine is refused", async () => {
    const { runtimeDir, target } = await running();
    const failed = freezeMachine(runtimeDir, target.devicesPath, soon());
    await expect(failed).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect(existsSync(target.devicesPath)).toBe(false);
  });
});
