// What stat(2) knows of a file's content: enough to notice that somebody changed it, without reading it.

import { stat } from "node:fs/promises";

/** Differs whenever the file was replaced or written to. Says nothing on another host. */
export async function fileIdentity(path: string): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
  return [dev, ino, size, mtimeNs, ctimeNs].join(":");
}
