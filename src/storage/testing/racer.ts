// One of several processes that use a state directory at once: node racer.js STATE_DIR NAME COUNT
// Waits until STATE_DIR/go exists, works, and prints what it got as JSON.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Deadline } from "../../base/deadline.js";
import { pollUntil, sleep } from "../../base/sleep.js";
import { selfIdentity } from "../../host/process-identity.js";
import { CacheStore } from "../cache-store.js";
import { Store } from "../store.js";

const [stateDir = "", name = "", count = "0"] = process.argv.slice(2);
const holder = await selfIdentity();
await pollUntil(() => (existsSync(join(stateDir, "go")) ? true : undefined), Deadline.after(10_000));

const lanes: (number | undefined)[] = [];
const inLock: [number, number][] = [];
const store = new Store(stateDir);
const cache = new CacheStore(stateDir);
for (let index = 0; index < Number(count); index++) {
  store.transaction(() => {
    const guestNumber = store.vms.freeGuestNumber();
    store.vms.insert({ id: `${name}-${index}`, spec: "{}", guestNumber, mover: holder, keeper: undefined });
  });
  store.ports.reserve(`${name}-${index}`, [{ hostAddress: name, hostPort: index, guestPort: 80, origin: "config" }]);
  store.vms.settle(`${name}-${index}`, holder, { status: "created" });
  lanes.push(store.lanes.lease("shared", { laneCount: 1000, holder, dead: [] }));
}
for (let index = 0; index < 3; index++) {
  const hold = async () => {
    const from = Date.now();
    await sleep(5);
    inLock.push([from, Date.now()]);
  };
  await cache.locks.withLock("one at a time", hold, Deadline.after(10_000));
}
store.close();
cache.close();
process.stdout.write(JSON.stringify({ lanes, inLock }));
