// `smolvm image list`.

import type { CommandModule } from "../command.js";
import { age, size } from "../output/quantities.js";
import { table } from "../output/table.js";

interface ListOptions {
  readonly quiet?: boolean;
}

export const command: CommandModule<ListOptions> = {
  configure(command) {
    command.option("-q, --quiet", "print names only");
  },

  async run({ host }, { options }) {
    const { listImages } = await host.loadSdk();
    const images = await listImages();
    if (options.quiet === true) {
      return { data: images, text: [...new Set(images.map(({ name }) => name))].join("\n") };
    }
    const rows = images.map((image) => [
      image.name,
      image.digest.slice(0, 12),
      image.isCurrent ? "yes" : "no",
      image.architecture,
      image.kernelRelease,
      size(image.allocatedBytes),
      age(image.createdAt),
    ]);
    return { data: images, text: table(["NAME", "DIGEST", "CURRENT", "ARCH", "KERNEL", "ON DISK", "AGE"], rows) };
  },
};
