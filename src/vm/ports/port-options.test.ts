import { describe, expect, test } from "vitest";
import { type ClosePortOptions, checkClosePort, checkExpose, type ExposeOptions } from "./port-options.js";

describe("what may be asked of ports", () => {
  test("has defaults, and takes 0 for a free port", () => {
    const free = { guestPort: 80, hostPort: 0, hostAddress: "127.0.0.1" };
    for (const options of [undefined, {}, { hostPort: 0 }, { hostPort: undefined, timeoutMs: 5 }]) {
      expect(checkExpose(80, options)).toEqual(free);
    }
    expect(checkExpose(65_535, { hostPort: 1024, hostAddress: "0.0.0.0" })).toEqual({
      guestPort: 65_535,
      hostPort: 1024,
      hostAddress: "0.0.0.0",
    });
    expect(checkClosePort(8080)).toEqual({ hostPort: 8080, hostAddress: "127.0.0.1" });
  });

  test.each<[unknown, object, string]>([
    [0, {}, "guestPort"],
    [65_536, {}, "guestPort"],
    [80.5, {}, "guestPort"],
    ["80", {}, "guestPort"],
    [undefined, {}, "guestPort"],
    [80, { hostPort: 80 }, "hostPort"],
    [80, { hostPort: 65_536 }, "hostPort"],
    [80, { hostPort: "8080" }, "hostPort"],
    [80, { hostAddress: "localhost" }, "hostAddress"],
    [80, { hostAddress: "::1" }, "hostAddress"],
    [80, { hostAddress: "127.0.0.1/8" }, "hostAddress"],
    [80, { guestAddress: "127.0.0.1" }, "guestAddress"],
  ])("%j with %j is refused by its name", (guestPort, options, field) => {
    expect(() => checkExpose(guestPort as number, options as ExposeOptions)).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) }),
    );
  });

  test.each<[unknown, object, string]>([
    [0, {}, "hostPort"],
    [1023, {}, "hostPort"],
    ["8080", {}, "hostPort"],
    [8080, { hostAddress: "" }, "hostAddress"],
    [8080, { guestPort: 1 }, "guestPort"],
  ])("closing %j with %j is refused by its name", (hostPort, options, field) => {
    expect(() => checkClosePort(hostPort as number, options as ClosePortOptions)).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) }),
    );
  });
});
