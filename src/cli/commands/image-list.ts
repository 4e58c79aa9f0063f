// `smolvm image list`.

import type { ImageInfo, TemplateInfo } from "../../index.js";
import type { CommandModule } from "../command.js";
import { age, size } from "../output/quantities.js";
import { table } from "../output/table.js";

interface ListOptions {
  readonly quiet?: boolean;
}

/** Characters of a digest or key that are shown. */
const SHORT_CHARS = 12;
const MIB_BYTES = 1024 * 1024;

export const command: CommandModule<ListOptions> = {
  configure(command) {
    command.option("-q, --quiet", "print names of images only");
  },

  async run({ host }, { options }) {
    const { listImages, listTemplates } = await host.loadSdk();
    const [images, templates] = await Promise.all([listImages(), listTemplates()]);
    const data = { images, templates };
    if (options.quiet === true) return { data, text: [...new Set(images.map(({ name }) => name))].join("\n") };
    return { data, text: [imageTable(images), ...templateTable(templates)].join("\n\n") };
  },
};

function imageTable(images: readonly ImageInfo[]): string {
  const rows = images.map((image) => [
    image.name,
    image.digest.slice(0, SHORT_CHARS),
    image.isCurrent ? "yes" : "no",
    image.architecture,
    image.kernelRelease,
    size(image.allocatedBytes),
    age(image.createdAt),
  ]);
  return table(["NAME", "DIGEST", "CURRENT", "ARCH", "KERNEL", "ON DISK", "AGE"], rows);
}

/** @returns No table when there is no template. */
function templateTable(templates: readonly TemplateInfo[]): string[] {
  if (templates.length === 0) return [];
  const rows = templates.map(({ image, key, facts, allocatedBytes, createdAt }) => [
    image?.name ?? "-",
    key.slice(0, SHORT_CHARS),
    facts["vcpuCount"] ?? "-",
    facts["memSizeMib"] === undefined ? "-" : size(Number(facts["memSizeMib"]) * MIB_BYTES),
    size(allocatedBytes),
    age(createdAt),
  ]);
  return [table(["IMAGE", "KEY", "VCPUS", "MEMORY", "ON DISK", "AGE"], rows)];
}
