// Paths of the host as bytes: names need not be UTF-8. Inside a transfer they are strings with one character a byte
// (latin1), which the functions of node:path can work on; the file system gets buffers.

import { basename, dirname, resolve } from "node:path/posix";
import { invalidConfig } from "../../errors/invalid-config.js";
import { readable } from "./tree-failure.js";

/** Bytes of a path as characters. */
export type HostPath = string;

/** What the caller gave, made absolute. */
export interface GivenHostPath {
  readonly path: HostPath;
  /** Whether it ends with a slash: something is to go into it. */
  readonly isInside: boolean;
}

/** @throws {INVALID_CONFIG} unless it is a path at all. */
export function givenHostPath(path: string | Uint8Array): GivenHostPath {
  const isPath = (typeof path === "string" || path instanceof Uint8Array) && path.length > 0;
  const bytes = isPath ? Buffer.from(path as string).toString("latin1") : "";
  if (!isPath || bytes.includes("\0")) {
    throw invalidConfig({ field: "hostPath", value: readable(bytes), expected: "a path of the host without NUL" });
  }
  const here = Buffer.from(process.cwd()).toString("latin1");
  return { path: resolve(here, bytes), isInside: bytes.endsWith("/") };
}

/** A path as the functions of node:fs take it. */
export function onHost(path: HostPath): Buffer {
  return Buffer.from(path, "latin1");
}

/** A path below a directory; the directory itself for an empty one. */
export function below(directory: HostPath, path: string): HostPath {
  if (path === "") return directory;
  return directory.endsWith("/") ? directory + path : `${directory}/${path}`;
}

/** The directory that a path is in; `"/"` for itself. */
export function directoryOf(path: HostPath): HostPath {
  return dirname(path);
}

/** The last name of a path; empty for `"/"`. */
export function nameOf(path: HostPath): string {
  return basename(path);
}
