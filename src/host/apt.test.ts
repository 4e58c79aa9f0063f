import { expect, test } from "vitest";
import { aptInstallArgv, aptProgress, parseInstallable } from "./apt.js";

test("a package without candidate, or unknown to apt, is not installable", () => {
  const policy = [
    "passt:",
    "  Installed: (none)",
    "  Candidate: 0.0~git20230309-1",
    "  Version table:",
    "     0.0~git20230309-1 500",
    "go-virtual:",
    "  Installed: (none)",
    "  Candidate: (none)",
    "  Version table:",
  ].join("\n");
  expect([...parseInstallable(policy)]).toEqual(["passt"]);
  expect(parseInstallable("").size).toBe(0);
});

test("the install command asks nothing, waits for the lock and takes no recommended packages", () => {
  const argv = aptInstallArgv(["zstd", "passt"]);
  expect(argv).toContain("DEBIAN_FRONTEND=noninteractive");
  expect(argv).toContain("--no-install-recommends");
  expect(argv).toContain("DPkg::Lock::Timeout=120");
  expect(argv.slice(-3)).toEqual(["install", "zstd", "passt"]);
});

test("apt's lines become progress with a share done", () => {
  const read = aptProgress("Installing");
  expect(read("Reading package lists...")).toBeUndefined();
  expect(read("0 upgraded, 2 newly installed, 0 to remove and 3 not upgraded.")).toBeUndefined();
  const lines = [
    "Get:1 mirror bookworm/main amd64 zstd amd64 1.5.4 [500 kB]",
    "Get:2 mirror bookworm/main amd64 passt amd64 0.1 [90 kB]",
    "Unpacking zstd (1.5.4) ...",
    "Unpacking passt (0.1) ...",
    "Setting up zstd (1.5.4) ...",
    "Setting up passt (0.1) ...",
  ];
  const events = lines.map(read);
  expect(events[0]).toEqual({ step: "Installing", detail: "fetching zstd", fraction: 1 / 6 });
  expect(events[2]?.detail).toBe("unpacking zstd");
  expect(events[5]).toEqual({ step: "Installing", detail: "setting up passt", fraction: 1 });
});
