// Which texts can name an image.

import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { IMAGE_RECIPES, type ImageRecipe } from "./recipes.js";

/** Safe as a file name, as an argument and inside an option's value. Digests match it, too. */
const NAME_PATTERN = /^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/;

/**
 * @throws {INVALID_CONFIG} naming `image` when `name` cannot be an image's name or digest.
 */
export function checkImageName(name: string): void {
  if (!NAME_PATTERN.test(name)) {
    const expected =
      "1 to 64 lower-case letters, digits, dots, dashes and underscores, starting with a letter or digit";
    throw invalidConfig({ field: "image", value: name, expected });
  }
}

/**
 * The recipe of a named image.
 *
 * @throws {INVALID_CONFIG} when `name` is not an image's name.
 * @throws {IMAGE_NOT_FOUND} when there is no such image.
 */
export function recipeFor(name: string): ImageRecipe {
  checkImageName(name);
  const recipe = IMAGE_RECIPES.get(name);
  if (recipe === undefined) {
    const known = [...IMAGE_RECIPES.keys()];
    throw new SmolVMError("IMAGE_NOT_FOUND", `Cannot find image "${name}": it is none of "${known.join('", "')}"`, {
      details: { image: name, known },
      hint: "Choose one of the images named in the message, or give kernelPath and rootfsPath.",
    });
  }
  return recipe;
}
