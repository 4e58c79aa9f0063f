import { expect, test } from "vitest";
import { BACKEND_NAMES, backendFor } from "./registry.js";

test("auto is the best backend that there is", () => {
  expect(backendFor("auto")).toBe(backendFor("qemu"));
  expect(backendFor("qemu").name).toBe("qemu");
});

test.each(["firecracker", "", "QEMU", "__proto__"])("%j is not part of this version", (name) => {
  expect(() => backendFor(name)).toThrow(
    expect.objectContaining({ code: "UNSUPPORTED", details: { field: "backend", value: name } }),
  );
});

test("every name that can be asked for is known or refused by code", () => {
  for (const name of BACKEND_NAMES) {
    try {
      expect(backendFor(name).features.laneCount).toBeGreaterThan(0);
    } catch (error) {
      expect(error).toMatchObject({ code: "UNSUPPORTED" });
    }
  }
});
