import { mkdirSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { type FirecrackerDouble, firecrackerDouble } from "./api/testing/firecracker-double.js";
import { apiSocket, vmmDirectory } from "./places.js";
import { closesVsock, pauseMachine, resumeMachine } from "./run-state.js";
import { scratch, soon } from "./testing/machines.js";

async function running(): Promise<{ double: FirecrackerDouble; runtimeDir: string }> {
  const runtimeDir = scratch();
  mkdirSync(vmmDirectory(runtimeDir));
  const double = await firecrackerDouble(apiSocket(runtimeDir));
  onTestFinished(() => double.end());
  double.machine.state = "Running";
  return { double, runtimeDir };
}

const paths = (double: FirecrackerDouble) => double.heard.map(({ method, path }) => `${method} ${path}`);

test("pauses and resumes, each twice without harm", async () => {
  const { double, runtimeDir } = await running();
  await pauseMachine(runtimeDir, soon());
  await pauseMachine(runtimeDir, soon());
  expect(double.machine.state).toBe("Paused");
  await resumeMachine(runtimeDir, soon());
  await resumeMachine(runtimeDir, soon());
  expect(double.machine.state).toBe("Running");
});

test("a machine that runs is not told to: 1.16.1 would close its vsock", async () => {
  const { double, runtimeDir } = await running();
  await resumeMachine(runtimeDir, soon());
  expect(paths(double)).toEqual(["GET /"]);
});

test("the guest of 1.16.1 is told that its vsock was reset before it goes on", async () => {
  const { double, runtimeDir } = await running();
  await pauseMachine(runtimeDir, soon());
  await resumeMachine(runtimeDir, soon());
  expect(paths(double)).toEqual(["PATCH /vm", "GET /", "PUT /snapshot/create", "PATCH /vm"]);
});

test.each([
  ["1.16.0", true],
  ["1.16.1", true],
  ["1.15.9", true],
  ["1.16.2", false],
  ["1.17.0-dev", false],
  ["2.0.0", false],
])("%s closes the vsock of a machine that goes on: %s", (version, closes) => {
  expect(closesVsock(version)).toBe(closes);
});

test("fails where there is no VMM", async () => {
  await expect(pauseMachine(scratch(), soon())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  await expect(resumeMachine(scratch(), Deadline.after(100))).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});
