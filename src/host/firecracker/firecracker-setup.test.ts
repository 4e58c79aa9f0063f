import { join } from "node:path";
import { expect, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { type FirecrackerSetupOptions, setUpFirecracker } from "./firecracker-setup.js";
import { ARCHITECTURE, releaseArchive, releaseOf, script, VERSION } from "./testing/archives.js";
import { file, serve, status } from "./testing/release-server.js";
import { program, scratch, tree } from "./testing/scratch.js";

const archive = releaseArchive();

async function options(more: Partial<FirecrackerSetupOptions> = {}) {
  const server = await serve(file(archive));
  const cacheDir = scratch();
  return {
    server,
    cacheDir,
    options: {
      paths: { cacheDir },
      architecture: ARCHITECTURE,
      release: releaseOf(archive),
      mirror: server.url,
      findOnPath: () => undefined,
      lookAtKvm: async () => ({ opens: true }) as const,
      isWanted: false,
      dryRun: false,
      deadline: Deadline.after(20_000),
      ...more,
    } satisfies FirecrackerSetupOptions,
  };
}

const noKvm = async () => ({ opens: false, found: "/dev/kvm does not exist", remedy: "Switch it on." }) as const;

test("it is offered where KVM opens, and nothing is done", async () => {
  const made = await options();
  expect(await setUpFirecracker(made.options)).toEqual({
    status: "offered",
    version: VERSION,
    url: `${made.server.url}/v${VERSION}/firecracker-v${VERSION}-${ARCHITECTURE}.tgz`,
    sha256: releaseOf(archive).sha256[ARCHITECTURE],
    directory: join(made.cacheDir, `firecracker/v${VERSION}-${ARCHITECTURE}`),
  });
  expect(made.server.requests).toEqual([]);
  expect(tree(made.cacheDir)).toEqual([]);
});

test("a dry run does nothing either, though it was asked for", async () => {
  const made = await options({ isWanted: true, dryRun: true });
  expect(await setUpFirecracker(made.options)).toMatchObject({ status: "offered", version: VERSION });
  expect(made.server.requests).toEqual([]);
  expect(tree(made.cacheDir)).toEqual([]);
});

test("it is installed when asked for, also without KVM, and is ready from then on", async () => {
  const made = await options({ isWanted: true, lookAtKvm: noKvm });
  const path = join(made.cacheDir, `firecracker/v${VERSION}-${ARCHITECTURE}/firecracker`);
  expect(await setUpFirecracker(made.options)).toEqual({ status: "installed", version: VERSION, path });
  expect(await setUpFirecracker(made.options)).toEqual({ status: "ready", version: VERSION, path });
  expect(made.server.requests).toHaveLength(1);
});

test("one on PATH is ready: nothing is installed beside it", async () => {
  const path = program(join(scratch(), "firecracker"), script("Firecracker", "1.17.0"));
  const findOnPath = (name: string) => (name === "firecracker" ? path : undefined);
  const made = await options({ isWanted: true, findOnPath });
  expect(await setUpFirecracker(made.options)).toEqual({ status: "ready", version: "1.17.0", path });
  expect(made.server.requests).toEqual([]);
});

test("nobody is bothered with it where it would be of no use, or cannot be had", async () => {
  const without = await options({ lookAtKvm: noKvm });
  expect(await setUpFirecracker(without.options)).toEqual({
    status: "unavailable",
    reason: "/dev/kvm does not exist. Switch it on.",
  });
  const unknown = await options({ release: { version: VERSION, sha256: {} } });
  expect(await setUpFirecracker(unknown.options)).toMatchObject({
    status: "unavailable",
    reason: expect.stringContaining("no sha256"),
  });
});

test("what was asked for and fails is an error", async () => {
  const mirror = (await serve(status(404))).url;
  const made = await options({ isWanted: true, mirror });
  await expect(setUpFirecracker(made.options)).rejects.toMatchObject({ code: "TRANSFER_FAILED" });
  const unknown = await options({ isWanted: true, release: { version: VERSION, sha256: {} } });
  await expect(setUpFirecracker(unknown.options)).rejects.toMatchObject({ code: "HOST_UNSUPPORTED" });
});
