// Installers as processes of their own: several at once, one that is killed, one whose disk is full.

import { once } from "node:events";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { spawnProgram } from "../process.js";
import { installFirecracker } from "./install-firecracker.js";
import { ARCHITECTURE, releaseArchive, releaseOf, VERSION } from "./testing/archives.js";
import { compileInstaller } from "./testing/compiled.js";
import { type Answer, file, type ReleaseServer, serve } from "./testing/release-server.js";
import { scratch, tree } from "./testing/scratch.js";

const DIRECTORY = `v${VERSION}-${ARCHITECTURE}`;
const INSTALLED = ["staging", DIRECTORY, `${DIRECTORY}/firecracker`, `${DIRECTORY}/jailer`].sort();
const archive = releaseArchive({ ballastBytes: 200_000 });
const half = Math.floor(archive.length / 2);

function optionsFor(server: ReleaseServer, cacheDir = scratch()) {
  return { paths: { cacheDir }, architecture: ARCHITECTURE, release: releaseOf(archive), mirror: server.url } as const;
}

type Options = ReturnType<typeof optionsFor>;
type ChildProcess = Awaited<ReturnType<typeof spawnProgram>>;

/** Starts an installer, by a shell that may limit it first; killed at the end of the test. */
async function start(installer: string, options: Options, limit = ":"): Promise<ChildProcess> {
  const line = `${limit}; exec "$0" "$@"`;
  const argv = ["sh", "-c", line, process.execPath, installer, JSON.stringify(options)];
  const child = await spawnProgram(argv, { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

/** What an installer printed at its end. */
async function answerOf(child: ChildProcess): Promise<Record<string, unknown>> {
  let text = "";
  child.stdout?.on("data", (chunk) => {
    text += chunk;
  });
  await once(child, "close");
  return JSON.parse(text) as Record<string, unknown>;
}

const left = ({ paths }: Options) => tree(join(paths.cacheDir, "firecracker"));

/** Answers nobody before `count` have asked, and then all. */
function together(count: number, answer: Answer): Answer {
  const waiting: (() => void)[] = [];
  return (exchange) => {
    waiting.push(() => answer(exchange));
    if (waiting.length >= count) for (const go of waiting.splice(0)) go();
  };
}

test("several at once all end well, each with a file of its own until then", async () => {
  const installer = compileInstaller(scratch());
  const server = await serve(together(3, file(archive)));
  const options = optionsFor(server);
  const answers = await Promise.all([1, 2, 3].map(async () => answerOf(await start(installer, options))));
  const path = join(options.paths.cacheDir, "firecracker", DIRECTORY, "firecracker");
  expect(answers).toEqual([{ path }, { path }, { path }]);
  expect(server.requests.map(({ range }) => range)).toEqual([undefined, undefined, undefined]);
  expect(left(options)).toEqual(INSTALLED);
});

test("one that is killed leaves a piece, with which the next goes on", async () => {
  const installer = compileInstaller(scratch());
  const stalled = file(archive, { stallAfterBytes: half });
  const server = await serve((exchange) => (exchange.index === 0 ? stalled : file(archive))(exchange));
  const options = optionsFor(server);
  const child = await start(installer, options);
  await expect
    .poll(() => left(options).filter((name) => name.endsWith("archive.tgz")), { timeout: 10_000 })
    .toHaveLength(1);
  await new Promise((resolve) => setTimeout(resolve, 200)); // Until the half is written; less would also do.
  child.kill("SIGKILL");
  await once(child, "close");
  expect(left(options).some((name) => name.startsWith(DIRECTORY))).toBe(false);

  await installFirecracker(options);
  expect(left(options)).toEqual(INSTALLED);
  const haveBytes = Number(/^bytes=(\d+)-$/.exec(server.requests[1]?.range ?? "")?.[1]);
  expect(haveBytes).toBeGreaterThan(0);
  expect(server.requests[1]?.sentBytes).toBe(archive.length - haveBytes);
});

test("one whose disk is full leaves nothing", async () => {
  const installer = compileInstaller(scratch());
  const server = await serve(file(archive));
  const options = optionsFor(server);
  // A limit of the size of files, in blocks of 512 bytes (POSIX ulimit), stands for a disk that is full.
  const answer = await answerOf(await start(installer, options, "ulimit -f 100"));
  expect(answer).toMatchObject({ code: "STORAGE_FAILED", details: { reason: "EFBIG" } });
  expect(left(options)).toEqual(["staging"]);
});

test("the program ends at once when it is done", async () => {
  const installer = compileInstaller(scratch());
  const child = await start(installer, optionsFor(await serve(file(archive))));
  await answerOf(child);
  expect(child.exitCode).toBe(0); // A connection that is kept open would hold it for seconds: see the test's timeout.
}, 10_000);
