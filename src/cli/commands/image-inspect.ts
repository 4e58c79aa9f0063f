// `smolvm image inspect`.

import type { ImageInfo } from "../../index.js";
import type { CommandModule } from "../command.js";
import { size } from "../output/quantities.js";
import { keyValues, table } from "../output/table.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<image>", "name of the image, its digest or the digest's beginning");
  },

  async run({ host }, { args: [name = ""] }) {
    const { inspectImage } = await host.loadSdk();
    const image = await inspectImage(name);
    return { data: image, text: imageText(image) };
  },
};

/** An image as people read it. */
export function imageText(image: ImageInfo): string {
  const facts = keyValues({
    name: image.name,
    digest: image.digest,
    current: image.isCurrent ? "yes" : "no",
    kernel: image.kernelRelease,
    architecture: image.architecture,
    built: image.createdAt,
    "on disk": size(image.allocatedBytes),
    directory: image.directory,
  });
  const files = image.artefacts.map(({ name, sizeBytes, sha256 }) => [name, size(sizeBytes), sha256]);
  return `${facts}\n\n${table(["FILE", "SIZE", "SHA256"], files)}`;
}
