import { describe, expect, it } from "vitest";
import { Interrupts } from "./interrupts.js";

describe("Interrupts", () => {
  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
    ["SIGPIPE", 141],
  ] as const)("%s means exit status %i", (name, exitCode) => {
    const interrupts = new Interrupts();
    expect(interrupts.exitCode).toBeUndefined();
    expect(interrupts.interrupt(name)).toBe(true);
    expect(interrupts.exitCode).toBe(exitCode);
    expect(interrupts.signal.aborted).toBe(true);
  });

  it("keeps the first one and says that there was one", () => {
    const interrupts = new Interrupts();
    interrupts.interrupt("SIGTERM");
    expect(interrupts.interrupt("SIGINT")).toBe(false);
    expect(interrupts.first).toBe("SIGTERM");
  });
});
