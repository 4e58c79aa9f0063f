import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "@photostructure/sqlite";
import { expect, onTestFinished, test } from "vitest";
import { runProgram } from "../host/process.js";
import { Database, type SqlValue } from "./database.js";
import { type Schema, STATE_SCHEMA } from "./migrations.js";
import { Store } from "./store.js";
import { compileProgram } from "./testing/compiled.js";
import { EARLIER_SHAPES, ROWS_OF_ALL, ROWS_OF_CAPTURES, ROWS_OF_PORTS } from "./testing/earlier-schemas.js";
import { scratchDirectory } from "./testing/scratch-store.js";

const TABLES = ["vms", "resources", "lanes", "ports", "verdicts", "retained_disks", "captures"];
const VERSION = STATE_SCHEMA.migrations.length;

type Rows = Record<string, Record<string, SqlValue>[]>;

/** A state directory as an earlier checkout has left it. */
function made(shape: string, directory = scratchDirectory()): string {
  const db = new DatabaseSync(join(directory, STATE_SCHEMA.file));
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; ${EARLIER_SHAPES[shape]}`);
  db.exec(`${ROWS_OF_ALL} ${ROWS_OF_PORTS[shape]} ${ROWS_OF_CAPTURES[shape]} PRAGMA user_version = 1;`);
  db.close();
  return directory;
}

function open(directory: string, schema?: Schema): Database {
  const db = Database.open(directory, schema);
  onTestFinished(() => db.close());
  return db;
}

/** Everything that is in a database, whoever made it. */
function contents(directory: string): { schema: unknown; version: unknown; rows: Rows } {
  const db = new DatabaseSync(join(directory, STATE_SCHEMA.file));
  try {
    const all = (sql: string) => db.prepare(sql).all() as Record<string, SqlValue>[];
    const rows = Object.fromEntries(TABLES.map((table) => [table, all(`SELECT * FROM ${table}`)]));
    return {
      schema: all("SELECT name, sql FROM sqlite_schema ORDER BY name"),
      version: all("PRAGMA user_version"),
      rows,
    };
  } finally {
    db.close();
  }
}

test.each(Object.keys(EARLIER_SHAPES))("a database %s has today's tables afterwards, and all of its rows", (shape) => {
  const [fresh, directory] = [scratchDirectory(), made(shape)];
  const before = contents(directory).rows;
  open(fresh);
  const db = open(directory);
  const after = contents(directory);
  expect(after.schema).toEqual(contents(fresh).schema);
  expect(after.version).toEqual([{ user_version: VERSION }]);
  expect({ ...after.rows, ports: [], captures: [] }).toEqual({ ...before, ports: [], captures: [] });
  expect(before["vms"]?.map(({ id }) => id)).toEqual(["run", "halt", "dark", "odd"]);
  for (const table of TABLES) expect([table, before[table]?.length ?? 0]).not.toEqual([table, 0]);
  expect(db.all("PRAGMA foreign_key_check")).toEqual([]);
  expect(db.get("PRAGMA integrity_check")).toEqual({ integrity_check: "ok" });
});

test("ports that told nothing of it are in the order in which they were asked for, and the SSH server's is known", () => {
  const db = open(made("of before networks could change"));
  expect(db.all("SELECT vm_id, host_address, host_port, guest_port, origin FROM ports ORDER BY id")).toEqual([
    { vm_id: "run", host_address: "127.0.0.1", host_port: 9090, guest_port: 81, origin: "config" },
    { vm_id: "run", host_address: "0.0.0.0", host_port: 8080, guest_port: 80, origin: "config" },
    { vm_id: "run", host_address: "127.0.0.1", host_port: 4022, guest_port: 22, origin: "ssh" },
    { vm_id: "halt", host_address: "127.0.0.1", host_port: 4023, guest_port: 22, origin: "config" },
    { vm_id: "odd", host_address: "127.0.0.1", host_port: 1024, guest_port: 1, origin: "config" },
  ]);
});

test("captures without a number get one in the order in which they were made, and can be listed", () => {
  const directory = made("of before captures were numbered");
  const before = contents(directory).rows["captures"];
  const store = new Store(directory);
  onTestFinished(() => store.close());
  expect(store.captures.list().map(({ id }) => id)).toEqual(["snap-1", "base-1"]);
  const captures = contents(directory).rows["captures"] ?? [];
  expect(captures.map(({ number }) => number)).toEqual([1, 2]);
  const unnumbered = captures.map(({ number: _, ...rest }) => rest);
  expect(unnumbered).toHaveLength(2);
  expect(unnumbered).toEqual(expect.arrayContaining(before ?? []));
});

test("captures with a number keep it", () => {
  const directory = made("of before networks could change");
  const before = contents(directory).rows["captures"];
  open(directory);
  expect(contents(directory).rows["captures"]).toEqual(before);
  expect(before?.map(({ number }) => number)).toEqual([2, 6]);
});

test.each([
  ["a column more", "ALTER TABLE lanes ADD COLUMN colour TEXT", 'its table "lanes" has the columns vm_id, lane, pid'],
  ["a column less", "ALTER TABLE captures DROP COLUMN maker_boot", 'its table "captures" has the columns'],
  ["a table more", "CREATE TABLE pets (name TEXT)", 'its table "pets" has the columns name'],
  ["a table less", "DROP TABLE retained_disks", 'its table "retained_disks" is missing'],
])("a shape that is not known, with %s, is refused and left as it is", (_what, change, message) => {
  const directory = made("of before networks could change");
  const raw = new DatabaseSync(join(directory, STATE_SCHEMA.file));
  onTestFinished(() => raw.close());
  raw.exec(change);
  const all = () => [
    raw.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").all(),
    raw.prepare("PRAGMA user_version").all(),
    ...["vms", "ports", "lanes"].map((table) => raw.prepare(`SELECT * FROM ${table}`).all()),
  ];
  const before = all();
  expect(() => Database.open(directory)).toThrow(
    expect.objectContaining({
      code: "STORAGE_FAILED",
      message: expect.stringContaining(message),
      hint: expect.stringContaining("It is as it was"),
    }),
  );
  expect(all()).toEqual(before);
});

test("ports that told it already keep it", () => {
  const directory = made("of while step 1 was changed in place");
  const before = contents(directory).rows["ports"];
  open(directory);
  expect(contents(directory).rows["ports"]).toEqual(before);
});

test.each(Object.keys(EARLIER_SHAPES))(
  "what refers to a VM of a database %s still goes with it, or holds it",
  (shape) => {
    const db = open(made(shape));
    expect(() => db.run("DELETE FROM vms WHERE id = 'run'")).toThrow(
      expect.objectContaining({ code: "STORAGE_FAILED" }),
    );
    db.run("DELETE FROM resources WHERE vm_id = 'run'");
    db.run("DELETE FROM vms WHERE id = 'run'");
    expect(db.all("SELECT * FROM ports WHERE vm_id = 'run'")).toEqual([]);
    expect(db.all("SELECT * FROM lanes WHERE vm_id = 'run'")).toEqual([]);
    db.run("UPDATE vms SET transition = 'networking', mover_pid = 1 WHERE id = 'halt'");
  },
);

test.each(Object.keys(EARLIER_SHAPES))("a failure in the middle leaves a database %s as it was", (shape) => {
  const directory = made(shape);
  const before = contents(directory);
  const broken = { ...STATE_SCHEMA, migrations: [...STATE_SCHEMA.migrations, "INSERT INTO nowhere VALUES (1)"] };
  expect(() => Database.open(directory, broken)).toThrow(
    expect.objectContaining({
      code: "STORAGE_FAILED",
      message: expect.stringContaining(`from version 1 to ${VERSION + 1}: no such table: nowhere`),
      hint: expect.stringContaining("It is as it was"),
    }),
  );
  expect(contents(directory)).toEqual(before);
  open(directory);
  expect(contents(directory).version).toEqual([{ user_version: VERSION }]);
});

test("a row that would refer to nothing ends the migration", () => {
  const directory = made("of before networks could change");
  const before = contents(directory);
  const broken = { ...STATE_SCHEMA, migrations: [...STATE_SCHEMA.migrations, "DELETE FROM vms WHERE id = 'run'"] };
  expect(() => Database.open(directory, broken)).toThrow(
    expect.objectContaining({ code: "STORAGE_FAILED", message: expect.stringContaining('refers to one of "vms"') }),
  );
  expect(contents(directory)).toEqual(before);
});

test("a database older than any of these is refused and left as it is", () => {
  const directory = scratchDirectory();
  const db = new DatabaseSync(join(directory, STATE_SCHEMA.file));
  db.exec("CREATE TABLE vms (id TEXT PRIMARY KEY, spec TEXT); INSERT INTO vms VALUES ('a', '{}');");
  db.exec("CREATE TABLE ports (host_port INTEGER); PRAGMA user_version = 1;");
  db.close();
  expect(() => Database.open(directory)).toThrow(
    expect.objectContaining({
      code: "STORAGE_FAILED",
      message: expect.stringContaining('its table "vms" has the columns id, spec,'),
    }),
  );
  const raw = new DatabaseSync(join(directory, STATE_SCHEMA.file));
  expect(raw.prepare("SELECT * FROM vms").all()).toEqual([{ id: "a", spec: "{}" }]);
  raw.close();
});

test("several processes may do it at once", async () => {
  const [processes, rounds] = [3, 10];
  const opener = compileProgram(scratchDirectory(), "opener");
  const parent = scratchDirectory();
  const places = Array.from({ length: rounds }, (_, round) => join(parent, `state-${round}`, "below"));
  for (const [round, place] of places.entries()) {
    mkdirSync(place, { recursive: true, mode: 0o700 });
    made(Object.keys(EARLIER_SHAPES)[round % Object.keys(EARLIER_SHAPES).length] ?? "", place);
  }
  const running = Array.from({ length: processes }, (_, index) =>
    runProgram([process.execPath, opener, parent, `p${index}`, String(processes), String(rounds)], {
      timeoutMs: 15_000,
    }),
  );
  await Promise.all(running);
  for (const place of places) {
    const { version, rows } = contents(place);
    expect([version, rows["vms"]?.length, rows["ports"]?.length]).toEqual([[{ user_version: VERSION }], 4, 5]);
    expect(rows["verdicts"]).toHaveLength(processes + 1);
  }
}, 20_000);
