// What a template is: a machine frozen after its boot, as three files in a directory of the cache.

import { createHash } from "node:crypto";
import { join } from "node:path";
import { TEMPLATE_DEVICES_FILE, TEMPLATE_DISK_FILE, TEMPLATE_MEMORY_FILE } from "./cache-layout.js";

/**
 * What is known of a template beside its files. `image`, `imageDigest`, `vcpuCount` and `memSizeMib` are shown by
 * `smolvm image list`; an image is kept while a VM uses a template whose `imageDigest` is its digest.
 */
export type TemplateFacts = Readonly<Record<string, string>>;

/** A verified template. */
export interface Template {
  /** sha256 of the text that it was asked for with. */
  readonly key: string;
  readonly directory: string;
  /** The guest's memory, sparse and as large as the VM's. */
  readonly memoryPath: string;
  /** State of the vCPUs and the devices. */
  readonly devicesPath: string;
  /** A qcow2 layer over the root file system that the machine was booted from. */
  readonly diskPath: string;
  readonly facts: TemplateFacts;
}

/** A template in the cache, as it is listed. */
export interface TemplateInfo {
  /** Names it; `image rm` takes its beginning. */
  readonly key: string;
  /** The image that it was booted from; null when the user's own files were all it took. */
  readonly image: { readonly name: string; readonly digest: string } | null;
  /** What it was made of, e.g. `vcpuCount` and `memSizeMib`; empty when its manifest is damaged. */
  readonly facts: TemplateFacts;
  /** When it was made, ISO 8601. */
  readonly createdAt: string;
  /** Bytes it takes on disk; its memory is mostly holes, which take none. */
  readonly allocatedBytes: number;
  readonly directory: string;
}

/** A template that cannot be used. */
export interface TemplateDamage {
  readonly key: string;
  readonly directory: string;
  /** What is wrong with it, one sentence. */
  readonly reason: string;
  /** False while a VM uses it: it stays, and is refused. */
  readonly isRemoved: boolean;
}

/** The names of a template's files, sorted. */
export const TEMPLATE_FILES: readonly string[] = [
  TEMPLATE_DEVICES_FILE,
  TEMPLATE_DISK_FILE,
  TEMPLATE_MEMORY_FILE,
].sort();

/** The key for a text, which may hold any characters. */
export function templateKey(keyText: string): string {
  return createHash("sha256").update(keyText).digest("hex");
}

/** The template in `directory`, as its name and its manifest's facts say; nothing is looked at. */
export function templateAt(directory: string, key: string, facts: TemplateFacts): Template {
  return {
    key,
    directory,
    memoryPath: join(directory, TEMPLATE_MEMORY_FILE),
    devicesPath: join(directory, TEMPLATE_DEVICES_FILE),
    diskPath: join(directory, TEMPLATE_DISK_FILE),
    facts,
  };
}
