import { describe, expect, it } from "vitest";
import { environment } from "./environment.js";

describe("environment", () => {
  it("takes values from the entry, or by name from our own environment", () => {
    const own = { TOKEN: "secret", EMPTY: "" };
    expect(environment(["A=1", "B=x=y", "C=", "TOKEN", "EMPTY"], own)).toEqual({
      A: "1",
      B: "x=y",
      C: "",
      TOKEN: "secret",
      EMPTY: "",
    });
  });

  it("lets the last one of a name win", () => {
    expect(environment(["A=1", "A=2"], {})).toEqual({ A: "2" });
  });

  it("refuses a name that is not set, and an entry without a name, without showing a value", () => {
    const refusal = expect.objectContaining({ code: "INVALID_CONFIG", message: expect.not.stringContaining("hush") });
    expect(() => environment(["MISSING"], {})).toThrow(refusal);
    expect(() => environment(["=hush"], {})).toThrow(refusal);
  });
});
