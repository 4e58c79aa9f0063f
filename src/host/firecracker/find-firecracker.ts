// Finds Firecracker and its jailer: on PATH, else the copy that `smolvm setup` installed. Changes nothing.

import { dirname, join } from "node:path";
import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { type Architecture, hostArchitecture } from "../architecture.js";
import { findProgram } from "../find-program.js";
import { type HostPaths, hostPaths } from "../paths.js";
import { type IdentifiedProgram, identifyProgram } from "./identify-program.js";
import { firecrackerLayout, releaseDirectory } from "./layout.js";
import { findForeign } from "./own-files.js";
import { type FirecrackerRelease, PINNED_RELEASE } from "./releases.js";
import { type FirecrackerProgramName, isSupportedVersion, SUPPORTED_VERSIONS } from "./version.js";

/** Firecracker on this host, as it can be used. */
export interface FoundFirecracker {
  readonly firecracker: IdentifiedProgram;
  /** Of the same version; `undefined` when there is none. */
  readonly jailer: IdentifiedProgram | undefined;
  /** Why there is no jailer that can be used. */
  readonly jailerProblem: string | undefined;
  /** Where it was found: on PATH, or as the copy that SmolVM installed. */
  readonly origin: "path" | "installed";
}

/** What a search gave. */
export interface FirecrackerSearch {
  readonly found: FoundFirecracker | undefined;
  /** What was there but is of no use, for a person; empty when nothing was there at all. */
  readonly problems: readonly string[];
}

/** Where to search. */
export interface SearchOptions {
  /** Default: the host's. */
  readonly paths?: Pick<HostPaths, "cacheDir"> | undefined;
  /** Whose installed copy counts. Default {@link PINNED_RELEASE}. */
  readonly release?: FirecrackerRelease | undefined;
  readonly architecture?: Architecture | undefined;
  /** The file that running a program would execute. Default: by PATH. */
  readonly findOnPath?: ((name: FirecrackerProgramName) => string | undefined) | undefined;
}

/** What brings it. */
export const INSTALL_REMEDY = "Run `smolvm setup --firecracker`; it needs no root.";

/**
 * The Firecracker that VMs are started with.
 *
 * @throws {HOST_UNSUPPORTED} when there is none that can be used, with the command that installs it.
 * @throws {ABORTED} {TIMEOUT}
 */
export async function findFirecracker(deadline: Deadline, options: SearchOptions = {}): Promise<FoundFirecracker> {
  const { found, problems } = await searchFirecracker(deadline, options);
  if (found !== undefined) return found;
  const why = problems.length === 0 ? "it is neither on PATH nor installed" : problems.join("; ");
  throw new SmolVMError("HOST_UNSUPPORTED", `Cannot find Firecracker ${SUPPORTED_VERSIONS}: ${why}`, {
    details: { problems },
    hint: INSTALL_REMEDY,
  });
}

/**
 * Looks in both places, and says what is wrong with what it finds. One on PATH that is of no use does not hide the
 * installed one.
 *
 * @throws {ABORTED} {TIMEOUT}
 */
export async function searchFirecracker(deadline: Deadline, options: SearchOptions = {}): Promise<FirecrackerSearch> {
  const problems: string[] = [];
  for (const place of [onPath(options), installed(options)]) {
    const firecracker = place.find("firecracker");
    if (firecracker === undefined) continue;
    const problem = await place.refuse();
    if (problem !== undefined) {
      problems.push(problem);
      continue;
    }
    const program = await identify("firecracker", firecracker, deadline);
    if (typeof program === "string") problems.push(program);
    else if (!isSupportedVersion(program.version)) {
      problems.push(`"${firecracker}" is v${program.version.text}, needed is ${SUPPORTED_VERSIONS}`);
    } else {
      return { found: { firecracker: program, ...(await jailerFor(program, place, deadline)) }, problems };
    }
  }
  return { found: undefined, problems };
}

/** The copy that SmolVM installed, whatever is on PATH; `undefined` when it is not there or of no use. */
export async function findInstalled(
  deadline: Deadline,
  options: SearchOptions = {},
): Promise<FoundFirecracker | undefined> {
  const { found } = await searchFirecracker(deadline, { ...options, findOnPath: () => undefined });
  const isWhole = found?.jailer !== undefined && found.firecracker.version.text === releaseOf(options).version;
  return isWhole ? found : undefined;
}

/** One place with both programs. */
interface Place {
  readonly origin: FoundFirecracker["origin"];
  find(name: FirecrackerProgramName): string | undefined;
  /** Why nothing there may be executed. */
  refuse(): Promise<string | undefined>;
}

function onPath({ findOnPath = findProgram }: SearchOptions): Place {
  const find = (name: FirecrackerProgramName) => findOnPath(name);
  return { origin: "path", find, refuse: async () => undefined };
}

function installed(options: SearchOptions): Place {
  const layout = firecrackerLayout(options.paths ?? hostPaths());
  const directory = releaseDirectory(layout, releaseOf(options).version, options.architecture ?? hostArchitecture());
  const files = ["firecracker", "jailer"].map((name) => join(directory, name));
  return {
    origin: "installed",
    find: (name) => findProgram(join(directory, name)),
    refuse: async () => {
      const problem = await findForeign([layout.cacheDir, layout.rootDir, directory, ...files]);
      return problem === undefined ? undefined : `${problem}: what is there is not executed`;
    },
  };
}

function releaseOf({ release = PINNED_RELEASE }: SearchOptions): FirecrackerRelease {
  return release;
}

async function jailerFor(
  firecracker: IdentifiedProgram,
  { origin, find }: Place,
  deadline: Deadline,
): Promise<Pick<FoundFirecracker, "jailer" | "jailerProblem" | "origin">> {
  // The one beside it comes first: PATH may hold several releases.
  const path = findProgram(join(dirname(firecracker.path), "jailer")) ?? find("jailer");
  const without = (jailerProblem: string) => ({ origin, jailer: undefined, jailerProblem });
  if (path === undefined) return without("jailer is not there");
  const jailer = await identify("jailer", path, deadline);
  if (typeof jailer === "string") return without(jailer);
  if (jailer.version.text !== firecracker.version.text) {
    return without(`"${path}" is v${jailer.version.text}, needed is v${firecracker.version.text}`);
  }
  return { origin, jailer, jailerProblem: undefined };
}

/** The program, or what is wrong with it. */
async function identify(
  name: FirecrackerProgramName,
  path: string,
  deadline: Deadline,
): Promise<IdentifiedProgram | string> {
  try {
    return await identifyProgram(name, path, deadline);
  } catch (error) {
    if (isSmolVMError(error, "HOST_UNSUPPORTED")) return error.message;
    throw error;
  }
}
