// `smolvm image build`.

import type { CommandModule } from "../command.js";
import { imageText } from "./image-inspect.js";

interface BuildOptions {
  readonly force?: boolean;
}

export const command: CommandModule<BuildOptions> = {
  isLong: true,

  configure(command) {
    command
      .argument("[image]", "name of the image (default: debian)")
      .option("--force", "build it even if it is there");
  },

  async run({ host, signal, onProgress }, { args: [name], options }) {
    const { buildImage } = await host.loadSdk();
    onProgress({ step: "Building the image" });
    const image = await buildImage(name, { force: options.force, signal, onProgress });
    return { data: image, text: imageText(image) };
  },
};
