// `smolvm image ...` against a library that is made up: the text for people and the data for programs.

import { expect, test } from "vitest";
import type { ImageInfo, TemplateInfo } from "../../index.js";
import type { CommandContext, CommandModule } from "../command.js";
import { command as list } from "./image-list.js";
import { command as rm } from "./image-rm.js";

const MIB_BYTES = 1024 * 1024;

const image: ImageInfo = {
  name: "debian",
  digest: "abcdef".repeat(10),
  isCurrent: true,
  kernelRelease: "6.12",
  architecture: "amd64",
  createdAt: new Date().toISOString(),
  allocatedBytes: 600 * MIB_BYTES,
  directory: "/cache/images/abc",
  artefacts: [],
};
const template: TemplateInfo = {
  key: "0123456789".repeat(6),
  image: { name: "debian", digest: image.digest },
  facts: { vcpuCount: "2", memSizeMib: "512" },
  createdAt: new Date().toISOString(),
  allocatedBytes: 120 * MIB_BYTES,
  directory: "/cache/templates/012",
};

function run(command: CommandModule<object>, sdk: object, { args = [] as string[], options = {} } = {}) {
  const context = { host: { loadSdk: async () => sdk }, signal: new AbortController().signal };
  return command.run(context as unknown as CommandContext, { args, options });
}

function library(templates: readonly TemplateInfo[]): object {
  return { listImages: async () => [image], listTemplates: async () => templates };
}

test("image list shows templates in a table of their own", async () => {
  const own: TemplateInfo = { ...template, key: "fedcba".repeat(10), image: null, facts: {} };
  const { data, text } = await run(list, library([template, own]));
  expect(data).toEqual({ images: [image], templates: [template, own] });
  const lines = text?.split("\n").map((line) => line.replaceAll(/\d+ s$/g, "AGE"));
  expect(lines?.slice(2)).toEqual([
    "",
    "IMAGE   KEY           VCPUS  MEMORY   ON DISK  AGE",
    "debian  012345678901  2      512 MiB  120 MiB  AGE",
    "-       fedcbafedcba  -      -        120 MiB  AGE",
  ]);
});

test("image list without templates has one table; --quiet has names of images only", async () => {
  expect((await run(list, library([]))).text?.split("\n")).toHaveLength(2);
  const { data, text } = await run(list, library([template]), { options: { quiet: true } });
  expect(text).toBe("debian");
  expect(data).toEqual({ images: [image], templates: [template] });
});

test("image rm says which templates went along", async () => {
  const templates = [{ path: "/cache/templates/012", freedBytes: 1 }];
  const removed = { path: "/cache/images/abc", freedBytes: 2, templates };
  const { data, text } = await run(rm, { removeImage: async () => removed }, { args: ["debian"] });
  expect(text).toBe("/cache/templates/012\n/cache/images/abc");
  expect(data).toEqual([{ image: "debian", ok: true, ...removed, error: null }]);
});
