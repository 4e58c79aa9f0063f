import { expect, test } from "vitest";
import { shellLine } from "./shell-line.js";

test("words are quoted only where a shell needs it", () => {
  expect(shellLine(["apt-get", "-o", "DPkg::Lock::Timeout=120", "a b", "it's", ""])).toBe(
    "apt-get -o DPkg::Lock::Timeout=120 'a b' 'it'\\''s' ''",
  );
});
