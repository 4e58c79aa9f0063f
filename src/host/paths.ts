// Where things live on this host, from the environment and the XDG base directory specification.
// The only library file that reads `process.env`.

import { createHash } from "node:crypto";
import { homedir, tmpdir } from "node:os";
import { delimiter, isAbsolute, join, resolve } from "node:path";

/** Directories that SmolVM uses; nothing is created by asking for them. */
export interface HostPaths {
  /** Database and one directory per VM. `SMOLVM_STATE_DIR`, else `$XDG_STATE_HOME/smolvm`. */
  readonly stateDir: string;
  /** Images, kernels, build staging. `SMOLVM_CACHE_DIR`, else `$XDG_CACHE_HOME/smolvm`. */
  readonly cacheDir: string;
  /** Sockets, with short names: a unix socket's path holds 107 bytes (unix(7)). */
  readonly runtimeDir: string;
}

/** Longest runtime directory that leaves room for the socket names below it, in bytes. */
const RUNTIME_DIR_LIMIT_BYTES = 60;

/**
 * @param overrides Directories the caller chose; relative ones count from the working directory.
 */
export function hostPaths(overrides: { readonly stateDir?: string | undefined } = {}): HostPaths {
  const stateDir = resolve(
    overrides.stateDir ??
      variable("SMOLVM_STATE_DIR") ??
      join(variable("XDG_STATE_HOME") ?? join(homedir(), ".local/state"), "smolvm"),
  );
  const cacheDir = resolve(
    variable("SMOLVM_CACHE_DIR") ?? join(variable("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "smolvm"),
  );
  const stateTag = createHash("sha256").update(stateDir).digest("hex").slice(0, 8);
  return { stateDir, cacheDir, runtimeDir: join(runtimeRoot(), stateTag) };
}

/** Debian mirror for image builds; unset means the build tool's own default. */
export function debianMirror(): string | undefined {
  return variable("SMOLVM_DEBIAN_MIRROR");
}

/** Where releases of Firecracker are downloaded from; unset means the project's own address. */
export function firecrackerMirror(): string | undefined {
  return variable("SMOLVM_FIRECRACKER_MIRROR");
}

/** The environment for child processes: ours, in the C locale so that messages can be read, with {@link searchPath}. */
export function childEnvironment(): Record<string, string> {
  const entries = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...Object.fromEntries(entries), LC_ALL: "C.UTF-8", PATH: searchPath().join(delimiter) };
}

/** The environment for programs that stay beside a VM: nothing of ours, which may hold keys, but {@link searchPath}. */
export function bareEnvironment(): Record<string, string> {
  return { LC_ALL: "C.UTF-8", PATH: searchPath().join(delimiter) };
}

/** Where Debian keeps mke2fs, nft and ip; an ordinary user's PATH leaves these out. */
const SYSTEM_PROGRAM_DIRS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** Directories in which programs are looked for: PATH, then the system's own. */
export function searchPath(): readonly string[] {
  const own = (variable("PATH") ?? "/usr/local/bin:/usr/bin:/bin").split(delimiter).filter((dir) => isAbsolute(dir));
  return [...own, ...SYSTEM_PROGRAM_DIRS.filter((dir) => !own.includes(dir))];
}

function runtimeRoot(): string {
  const uid = process.getuid?.() ?? 0;
  const session = variable("XDG_RUNTIME_DIR");
  if (uid === 0 && process.platform === "linux") return "/run/smolvm";
  if (session !== undefined && Buffer.byteLength(session) <= RUNTIME_DIR_LIMIT_BYTES) return join(session, "smolvm");
  const shortTmp = Buffer.byteLength(tmpdir()) <= RUNTIME_DIR_LIMIT_BYTES ? tmpdir() : "/tmp";
  return join(shortTmp, `smolvm-${uid}`);
}

function variable(name: string): string | undefined {
  const value = process.env[name];
  return value === undefined || value === "" ? undefined : value;
}
