import { describe, expect, it } from "vitest";
import { invalidConfig } from "../../errors/invalid-config.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { errorReport, errorText } from "./error-text.js";

const QUIET = { isDebug: false };

describe("errorText", () => {
  it("is one line and a hint", () => {
    const error = new SmolVMError("VM_NOT_FOUND", 'Cannot find\n VM "a1"', { hint: "Look elsewhere." });
    expect(errorText(error, QUIET)).toBe('smolvm: Cannot find VM "a1"\nhint: Look elsewhere.\n');
  });

  it("names the option that sets a refused field", () => {
    const error = invalidConfig({ field: "ports[0].guest", value: 0, expected: "at least 1" });
    expect(errorText(error, QUIET)).toContain("hint: Correct the option --port.\n");
    expect(errorText(invalidConfig({ field: "argv", value: "", expected: "more" }), QUIET)).not.toContain("details");
  });

  it.each(["BOOT_FAILED", "BOOT_TIMEOUT"] as const)("shows the last words of the guest and the VMM for %s", (code) => {
    const details = { serialTail: "panic\x1b[2J\r\nend\n", vmmStderr: "qemu: no\n" };
    const text = errorText(new SmolVMError(code, "No boot", { details }), QUIET);
    expect(text).toContain("--- end of the serial console ---\npanic\\x1b[2J\nend\n");
    expect(text).toContain("--- messages of the VMM ---\nqemu: no\n");
  });

  it("shows a stack only when asked", () => {
    const error = new TypeError("x is not a function");
    expect(errorText(error, QUIET)).not.toContain("error-text.test");
    expect(errorText(error, { isDebug: true })).toContain("error-text.test");
  });

  it("does not lecture who interrupted it", () => {
    expect(errorText(new SmolVMError("ABORTED", "Interrupted by SIGINT"), QUIET)).toBe(
      "smolvm: Interrupted by SIGINT\n",
    );
  });
});

describe("errorReport", () => {
  it("calls what is not ours INTERNAL", () => {
    expect(errorReport(new TypeError("x"))).toMatchObject({ code: "INTERNAL", message: "x", exitStatus: 70 });
    expect(errorReport("text")).toMatchObject({ code: "INTERNAL", message: "text" });
  });
});
