import { beforeEach, expect, test } from "vitest";
import type { ProcessIdentity } from "../host/process-identity.js";
import type { Store } from "./store.js";
import { scratchStore } from "./testing/scratch-store.js";

const mover: ProcessIdentity = { pid: 100, startTime: "1000", bootId: "boot" };
let store: Store;

beforeEach(() => {
  store = scratchStore();
});

function insert(id: string): void {
  store.vms.insert({ id, spec: "{}", guestNumber: store.vms.freeGuestNumber(), mover, keeper: undefined });
}

const port = (hostPort: number, hostAddress = "127.0.0.1") =>
  ({ hostAddress, hostPort, guestPort: 80, origin: "config" }) as const;

test("one that another VM has is refused, and with it all that were asked for", () => {
  insert("a");
  insert("b");
  store.ports.reserve("a", [port(8080)]);
  expect(() => store.ports.reserve("b", [port(9090), port(8080)])).toThrow(
    expect.objectContaining({
      code: "PORT_IN_USE",
      message: expect.stringContaining("another VM"),
      details: { vmId: "b", hostAddress: "127.0.0.1", hostPort: 8080 },
    }),
  );
  expect(store.ports.reserved()).toEqual([port(8080)]);
  store.ports.reserve("b", [port(8080, "127.0.0.2")]);
  expect(store.ports.reserved()).toHaveLength(2);
});

test("all addresses are each address, and a VM's own port is taken too", () => {
  insert("a");
  store.ports.reserve("a", [port(8080)]);
  for (const taken of [port(8080), port(8080, "0.0.0.0")]) {
    expect(() => store.ports.reserve("a", [taken])).toThrow(
      expect.objectContaining({ code: "PORT_IN_USE", message: expect.stringContaining("already") }),
    );
  }
  store.ports.reserve("a", [port(9090, "0.0.0.0")]);
  expect(() => store.ports.reserve("a", [port(9090)])).toThrow(expect.objectContaining({ code: "PORT_IN_USE" }));
});

test("are listed in the order in which they came, and given up one by one", () => {
  insert("a");
  insert("b");
  const later = { ...port(80), guestPort: 81, origin: "expose" } as const;
  store.ports.reserve("a", [port(9090), port(8080)]);
  store.ports.reserve("a", [later]);
  expect(store.ports.list("a")).toEqual([port(9090), port(8080), later]);
  store.ports.release("b", port(8080));
  store.ports.release("a", port(8080));
  expect(store.ports.list("a")).toEqual([port(9090), later]);
  store.ports.reserve("b", [port(8080)]);
  expect(store.ports.list("b")).toEqual([port(8080)]);
});

test("of a VM that is gone cannot be reserved", () => {
  expect(() => store.ports.reserve("gone", [port(8080)])).toThrow(expect.objectContaining({ code: "VM_NOT_FOUND" }));
  expect(store.ports.reserved()).toEqual([]);
});
