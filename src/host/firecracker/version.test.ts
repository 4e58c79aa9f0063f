import { expect, test } from "vitest";
import { archiveEntries, archiveUrl, PINNED_RELEASE, RELEASES_URL } from "./releases.js";
import { isSupportedVersion, OLDEST_FIRECRACKER, parseStatedVersion } from "./version.js";

const LOG = "2026-11-24T23:07:27.073734150 [anonymous-instance:main] Firecracker exiting successfully. exit_code=0";

test("each program's version is read out of what it says", () => {
  expect(parseStatedVersion("firecracker", `Firecracker v1.16.1\n\n${LOG}\n`)).toEqual({
    numbers: [1, 16, 1],
    text: "1.16.1",
  });
  expect(parseStatedVersion("jailer", "Jailer v1.16.1\n\n")).toEqual({ numbers: [1, 16, 1], text: "1.16.1" });
  expect(parseStatedVersion("firecracker", "Firecracker v1.17.0-dev\n")?.text).toBe("1.17.0-dev");
});

test.each(["", "Jailer v1.16.1", "Firecracker v1.16", "Firecracker 1.16.1", "xFirecracker v1.16.1", LOG])(
  "%j is no version of Firecracker",
  (text) => {
    expect(parseStatedVersion("firecracker", text)).toBeUndefined();
  },
);

test.each([
  ["1.16.0", false],
  ["1.16.1", true],
  ["1.20.0", true],
  ["1.15.9", false],
  ["0.99.0", false],
  ["2.0.0", false],
])("v%s: %s", (version, isSupported) => {
  const stated = parseStatedVersion("firecracker", `Firecracker v${version}`);
  expect(isSupportedVersion(stated!)).toBe(isSupported);
});

test("the pinned release can be used, and has whole digests for both architectures", () => {
  const pinned = parseStatedVersion("firecracker", `Firecracker v${PINNED_RELEASE.version}`);
  expect(isSupportedVersion(pinned!)).toBe(true);
  expect(OLDEST_FIRECRACKER).toEqual([1, 16, 1]);
  const { x86_64, aarch64 } = PINNED_RELEASE.sha256;
  for (const digest of [x86_64, aarch64]) expect(digest).toMatch(/^[0-9a-f]{64}$/);
  expect(x86_64).not.toBe(aarch64);
});

test("addresses and names are those of the project's releases", () => {
  expect(archiveUrl(RELEASES_URL, "1.16.1", "aarch64")).toBe(
    "https://github.com/firecracker-microvm/firecracker/releases/download/v1.16.1/firecracker-v1.16.1-aarch64.tgz",
  );
  expect(archiveEntries("1.16.1", "aarch64")).toEqual({
    firecracker: "release-v1.16.1-aarch64/firecracker-v1.16.1-aarch64",
    jailer: "release-v1.16.1-aarch64/jailer-v1.16.1-aarch64",
  });
});
