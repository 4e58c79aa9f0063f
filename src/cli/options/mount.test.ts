import { expect, test } from "vitest";
import { collectMount } from "./mount.js";

test("a host directory, a guest directory, and whether the guest may write to it", () => {
  const one = collectMount("./src:/work/src");
  expect(collectMount("/a b:/data:rw", collectMount("/c:/d:ro", one))).toEqual([
    { hostPath: "./src", guestPath: "/work/src" },
    { hostPath: "/c", guestPath: "/d" },
    { hostPath: "/a b", guestPath: "/data", writable: true },
  ]);
});

test.each(["", "/only", ":/guest", "/host:", "/host:relative", "/host:/guest:wr"])("%j is refused", (text) => {
  expect(() => collectMount(text)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
});
