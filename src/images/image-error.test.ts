import { expect, test } from "vitest";
import { SmolVMError } from "../errors/smolvm-error.js";
import { asImageError } from "./image-error.js";

function programError(stderr: string): SmolVMError {
  return new SmolVMError("HOST_COMMAND_FAILED", 'Program "setpriv" exited with 25', { details: { stderr } });
}

test("says what the program said first, and keeps its details", () => {
  const cause = programError("I: hello\nE: Failed to fetch http://x/\nE: mmdebstrap failed to run\n");
  const error = asImageError(cause, 'build image "debian"');
  expect(error).toMatchObject({ code: "IMAGE_FAILED", cause, details: cause.details });
  expect(error.message).toBe('Cannot build image "debian": E: Failed to fetch http://x/');
  expect(error.hint).toContain("mirror");
});

test.each([programError("mke2fs: No space left on device"), new Error("ENOSPC: write")])(
  "hints at space: %s",
  (cause) => {
    expect(asImageError(cause, "build").hint).toContain("SMOLVM_CACHE_DIR");
  },
);

test.each(["ABORTED", "TIMEOUT", "HOST_UNSUPPORTED"] as const)("leaves %s as it is", (code) => {
  const error = new SmolVMError(code, "x");
  expect(asImageError(error, "build")).toBe(error);
});
