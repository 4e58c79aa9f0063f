// What every step of an image build is given.

import type { Deadline } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import type { ImageArchitecture } from "./architecture.js";
import type { ImageRecipe } from "./recipes.js";

/** One build in progress. */
export interface BuildContext {
  readonly recipe: ImageRecipe;
  readonly architecture: ImageArchitecture;
  /** Private directory for intermediate files; it is gone after the build. */
  readonly workDir: string;
  /** Directory that becomes the image: a step puts its finished files here. */
  readonly outDir: string;
  /** Debian mirror; mmdebstrap's own default when undefined. */
  readonly mirror: string | undefined;
  readonly deadline: Deadline;
  readonly onProgress: ProgressListener;
}
