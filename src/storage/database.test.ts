import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "@photostructure/sqlite";
import { describe, expect, onTestFinished, test } from "vitest";
import { runProgram } from "../host/process.js";
import { Database, isConstraintError } from "./database.js";
import { CACHE_SCHEMA, STATE_SCHEMA } from "./migrations.js";
import { compileProgram } from "./testing/compiled.js";
import { scratchDirectory } from "./testing/scratch-store.js";

const { file: DATABASE_FILE, migrations: MIGRATIONS } = STATE_SCHEMA;

const isStorageError = expect.objectContaining({ code: "STORAGE_FAILED" });

function open(stateDir: string): Database {
  const db = Database.open(stateDir);
  onTestFinished(() => db.close());
  return db;
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

describe("the schema", () => {
  test("is made from nothing, and opening again changes nothing", () => {
    const stateDir = join(scratchDirectory(), "a", "b");
    const query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    const tables = () => open(stateDir).all(query);
    const expected = ["captures", "lanes", "ports", "resources", "retained_disks", "verdicts", "vms"];
    expect(tables().map(({ name }) => name)).toEqual(expected);
    expect(tables().map(({ name }) => name)).toEqual(expected);
    expect(open(stateDir).get("PRAGMA user_version")).toEqual({ user_version: MIGRATIONS.length });
    expect(open(stateDir).get("PRAGMA journal_mode")).toEqual({ journal_mode: "wal" });
    expect(open(stateDir).get("PRAGMA foreign_keys")).toEqual({ foreign_keys: 1 });
  });

  test("of a cache is another one, in a file of its own", () => {
    const directory = scratchDirectory();
    open(directory);
    const cache = Database.open(directory, CACHE_SCHEMA);
    onTestFinished(() => cache.close());
    const tables = cache.all("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
    expect(tables.map(({ name }) => name)).toEqual(["locks", "tenants"]);
    expect(readdirSync(directory)).toEqual(expect.arrayContaining([DATABASE_FILE, CACHE_SCHEMA.file]));
  });

  test("of a newer version is refused and left as it is", () => {
    const stateDir = scratchDirectory();
    const db = open(stateDir);
    db.run("INSERT INTO verdicts VALUES ('a', 'b', 1)");
    db.run(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    db.close();
    expect(() => Database.open(stateDir)).toThrow(
      expect.objectContaining({
        code: "STORAGE_FAILED",
        details: { path: join(stateDir, DATABASE_FILE), version: MIGRATIONS.length + 1 },
        hint: expect.stringContaining("Update SmolVM"),
      }),
    );
    const raw = new DatabaseSync(join(stateDir, DATABASE_FILE));
    expect(raw.prepare("SELECT count(*) AS n FROM verdicts").get()).toEqual({ n: 1 });
    raw.close();
  });

  test("refuses states and transitions that there are not", () => {
    const db = open(scratchDirectory());
    const insert = (status: string, transition: string | null, pid: number | null) => () =>
      db.run(
        `INSERT INTO vms (id, status, spec, guest_number, transition, mover_pid, created_at_ms, updated_at_ms)
         VALUES ('a', ?, '', 0, ?, ?, 0, 0)`,
        status,
        transition,
        pid,
      );
    for (const [status, transition, pid] of [
      ["flying", null, null],
      ["running", "flying", 1],
      ["running", "stopping", null],
      ["running", null, 1],
    ] as const) {
      expect(insert(status, transition, pid)).toThrow(isStorageError);
    }
    expect(insert("running", "stopping", 1)).not.toThrow();
  });
});

describe("files", () => {
  test("only their owner can read, journal included", () => {
    const parent = join(scratchDirectory(), "made");
    const stateDir = join(parent, "too");
    const before = process.umask(0);
    try {
      open(stateDir).run("INSERT INTO verdicts VALUES ('a', 'b', 1)");
    } finally {
      process.umask(before);
    }
    expect([mode(parent), mode(stateDir)]).toEqual(["700", "700"]);
    const names = readdirSync(stateDir).sort();
    expect(names).toEqual([DATABASE_FILE, `${DATABASE_FILE}-shm`, `${DATABASE_FILE}-wal`]);
    for (const name of names) expect([name, mode(join(stateDir, name))]).toEqual([name, "600"]);
  });

  test("a directory that was there keeps its mode", () => {
    const stateDir = scratchDirectory();
    chmodSync(stateDir, 0o755);
    open(stateDir);
    expect(mode(stateDir)).toBe("755");
  });

  test.each([0o1777, 0o777, 0o720, 0o702])("a directory of mode %o, to which others can write, is refused", (bits) => {
    for (const schema of [STATE_SCHEMA, CACHE_SCHEMA]) {
      const directory = scratchDirectory();
      chmodSync(directory, bits);
      expect(() => Database.open(directory, schema)).toThrow(
        expect.objectContaining({
          code: "STORAGE_FAILED",
          details: { path: directory, uid: process.getuid?.(), mode: bits.toString(8) },
          hint: expect.stringContaining("chmod go-w"),
        }),
      );
      expect([statSync(directory).mode & 0o7777, readdirSync(directory)]).toEqual([bits, []]);
    }
  });

  test("a directory of another user is refused, also to root", () => {
    const isRoot = process.getuid?.() === 0;
    const stateDir = isRoot ? scratchDirectory() : "/";
    if (isRoot) chownSync(stateDir, 65_534, 65_534);
    expect(() => Database.open(stateDir)).toThrow(
      expect.objectContaining({ code: "STORAGE_FAILED", message: expect.stringContaining("belongs to user") }),
    );
    expect(existsSync(join(stateDir, DATABASE_FILE))).toBe(false);
  });

  test("a place where no directory can be made is refused, at once", () => {
    for (const place of ["/proc/smolvm", "/proc/smolvm/a/b", "/proc/self/fd/smolvm/a"]) {
      expect(() => Database.open(place)).toThrow(isStorageError);
    }
  });

  test("a link to a directory of ours is followed, one to nowhere is refused", () => {
    const [target, links] = [scratchDirectory(), scratchDirectory()];
    symlinkSync(target, join(links, "good"));
    symlinkSync(join(links, "nowhere"), join(links, "bad"));
    open(join(links, "good"));
    expect(existsSync(join(target, DATABASE_FILE))).toBe(true);
    expect(() => Database.open(join(links, "bad"))).toThrow(isStorageError);
    expect(() => Database.open(join(links, "bad", "more"))).toThrow(isStorageError);
  });

  test("that were open to others are closed to them", () => {
    const stateDir = scratchDirectory();
    writeFileSync(join(stateDir, DATABASE_FILE), "", { mode: 0o666 });
    chmodSync(join(stateDir, DATABASE_FILE), 0o666);
    open(stateDir);
    expect(mode(join(stateDir, DATABASE_FILE))).toBe("600");
  });

  test("a symbolic link in the database's place is refused and not followed", () => {
    const stateDir = scratchDirectory();
    const target = join(scratchDirectory(), "victim");
    symlinkSync(target, join(stateDir, DATABASE_FILE));
    expect(() => Database.open(stateDir)).toThrow(isStorageError);
    expect(existsSync(target)).toBe(false);
    writeFileSync(target, "precious", { mode: 0o644 });
    expect(() => Database.open(stateDir)).toThrow(isStorageError);
    expect([readFileSync(target, "utf8"), mode(target)]).toEqual(["precious", "644"]);
  });

  test.each([
    ["a directory", (path: string) => mkdirSync(path)],
    ["something else than a database", (path: string) => writeFileSync(path, "no database ".repeat(500))],
  ])("%s in the database's place is refused", (_what, plant) => {
    const stateDir = scratchDirectory();
    plant(join(stateDir, DATABASE_FILE));
    expect(() => Database.open(stateDir)).toThrow(isStorageError);
  });

  test("a state directory that is a file is refused", () => {
    const path = join(scratchDirectory(), "file");
    writeFileSync(path, "");
    expect(() => Database.open(path)).toThrow(isStorageError);
  });
});

describe("a transaction", () => {
  test("that throws leaves nothing, and the next one works", () => {
    const db = open(scratchDirectory());
    const insert = (name: string) => db.run("INSERT INTO verdicts VALUES (?, 'x', 1)", name);
    const broken = () =>
      db.transaction(() => {
        insert("a");
        throw new RangeError("no");
      });
    expect(broken).toThrow(RangeError);
    expect(db.transaction(() => insert("b"))).toBe(1);
    expect(db.all("SELECT name FROM verdicts")).toEqual([{ name: "b" }]);
  });

  test("inside another joins it", () => {
    const db = open(scratchDirectory());
    const insert = (name: string) => db.run("INSERT INTO verdicts VALUES (?, 'x', 1)", name);
    const broken = () =>
      db.transaction(() => {
        db.transaction(() => insert("inner"));
        throw new RangeError("no");
      });
    expect(broken).toThrow(RangeError);
    expect(db.all("SELECT name FROM verdicts")).toEqual([]);
  });

  test("on a full disk is rolled back whole, and what was there stays", () => {
    const stateDir = scratchDirectory();
    const db = open(stateDir);
    db.run("INSERT INTO verdicts VALUES ('before', 'x', 1)");
    const pages = Number(db.get("PRAGMA page_count")?.page_count);
    db.get(`PRAGMA max_page_count = ${pages + 3}`);
    const fill = () =>
      db.transaction(() => {
        for (let index = 0; index < 50; index++) {
          db.run("INSERT INTO verdicts VALUES (?, ?, 1)", `n${index}`, "x".repeat(4096));
        }
      });
    expect(fill).toThrow(expect.objectContaining({ code: "STORAGE_FAILED", details: { sqliteCode: 13 } }));
    expect(db.all("SELECT name FROM verdicts")).toEqual([{ name: "before" }]);
    db.get("PRAGMA max_page_count = 100000");
    expect(fill).not.toThrow();
    expect(open(stateDir).get("SELECT count(*) AS n FROM verdicts")).toEqual({ n: 51 });
  });
});

test("SQLite's errors are ours", () => {
  const db = open(scratchDirectory());
  expect(() => db.run("SELECT nonsense")).toThrow(isStorageError);
  db.run("INSERT INTO verdicts VALUES ('a', 'x', 1)");
  try {
    db.run("INSERT INTO verdicts VALUES ('a', 'x', 1)");
    expect.unreachable();
  } catch (error) {
    expect(error).toEqual(isStorageError);
    expect(isConstraintError(error)).toBe(true);
  }
  expect(isConstraintError(new Error("x"))).toBe(false);
  db.close();
  db.close();
  expect(() => db.all("SELECT * FROM vms")).toThrow(isStorageError);
});

test("several processes may open the same fresh directory at once", async () => {
  const [processes, rounds] = [3, 30];
  const opener = compileProgram(scratchDirectory(), "opener");
  const parent = scratchDirectory();
  const running = Array.from({ length: processes }, (_, index) =>
    runProgram([process.execPath, opener, parent, `p${index}`, String(processes), String(rounds)], {
      timeoutMs: 15_000,
    }),
  );
  await Promise.all(running);
  for (let round = 0; round < rounds; round++) {
    expect(open(join(parent, `state-${round}`, "below")).all("SELECT * FROM verdicts")).toHaveLength(processes);
  }
}, 20_000);
