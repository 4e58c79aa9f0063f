import { expect, test } from "vitest";
import { imageArchitecture } from "./architecture.js";
import { recipeFor } from "./image-name.js";
import { type MmdebstrapRun, mmdebstrapArgv } from "./mmdebstrap.js";

const run: MmdebstrapRun = {
  step: "x",
  variant: "apt",
  packages: ["git", "curl"],
  leaveOut: ["/a/*"],
  target: "/t.tar",
};
const context = { recipe: recipeFor("debian"), architecture: imageArchitecture(), mirror: undefined };

test("names suite and target last, and no mirror unless asked", () => {
  const argv = mmdebstrapArgv(run, context, undefined);
  expect(argv.slice(-2)).toEqual(["trixie", "/t.tar"]);
  expect(argv).toEqual(expect.arrayContaining(["--variant=apt", "--include=git,curl", "--dpkgopt=path-exclude=/a/*"]));
  expect(argv.join(" ")).not.toContain("keyring");
});

test("passes keyring and mirror on", () => {
  const argv = mmdebstrapArgv(run, { ...context, mirror: "http://mirror.test/debian" }, "/keys.gpg");
  expect(argv).toContain("--keyring=/keys.gpg");
  expect(argv.slice(-3)).toEqual(["trixie", "/t.tar", "http://mirror.test/debian"]);
});
