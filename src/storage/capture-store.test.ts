import { beforeEach, describe, expect, test } from "vitest";
import type { Store } from "./store.js";
import { scratchStore } from "./testing/scratch-store.js";

const alice = { pid: 1, startTime: "1", bootId: "b" };
let store: Store;

beforeEach(() => {
  store = scratchStore();
});

describe("captures", () => {
  const capture = { kind: "snapshot" as const, vmId: "a", spec: "{}", maker: alice };

  test("are found by id, and by name where they have one", () => {
    store.captures.insert({ ...capture, id: "one", name: "first" });
    store.captures.insert({ ...capture, id: "two", name: undefined });
    expect(store.captures.find("first")).toMatchObject({ id: "one", isComplete: false, maker: alice });
    expect(store.captures.find("two")).toMatchObject({ id: "two", name: undefined });
    expect(store.captures.find("three")).toBeUndefined();
    expect(
      store.captures
        .list()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(["one", "two"]);
  });

  test("do not share a name", () => {
    store.captures.insert({ ...capture, id: "one", name: "first" });
    const again = () => store.captures.insert({ ...capture, id: "two", name: "first" });
    expect(again).toThrow(expect.objectContaining({ code: "SNAPSHOT_EXISTS" }));
  });

  test("are complete, let go of, left to what stands on them, and removed", () => {
    store.captures.insert({ ...capture, id: "one", name: "first" });
    expect(() => store.captures.release("one")).toThrow();
    store.captures.complete("one", "whole");
    expect(store.captures.find("one")).toMatchObject({ isComplete: true, spec: "whole", maker: alice });
    store.captures.release("one");
    store.captures.makeBase("one");
    expect(store.captures.find("one")).toMatchObject({ kind: "base", name: undefined, maker: undefined });
    store.captures.remove("one");
    expect(store.captures.list()).toEqual([]);
  });
});
