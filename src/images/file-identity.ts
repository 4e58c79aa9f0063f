// What stat(2) knows of a file's content: enough to notice that somebody changed it, without reading it.

import { stat } from "node:fs/promises";

const NS_PER_MS = 1_000_000n;

/** What stat(2) said of a file at one moment. */
export interface FileState {
  /** Differs whenever the file was replaced or written to. Says nothing on another host. */
  readonly identity: string;
  /** When it was last written to, renamed or the like, in milliseconds since 1970. */
  readonly changedAtMs: number;
}

/** @throws What stat(2) says when there is no such file. */
export async function fileState(path: string): Promise<FileState> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
  return { identity: [dev, ino, size, mtimeNs, ctimeNs].join(":"), changedAtMs: Number(ctimeNs / NS_PER_MS) };
}

/** {@link FileState.identity} of a file. */
export async function fileIdentity(path: string): Promise<string> {
  return (await fileState(path)).identity;
}
