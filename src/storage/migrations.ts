// The schemas, as lists of steps. A step that has landed is never edited; a change is a new step. (But step 2 of the state
// directory once took shapes that it did not know and made of them what nobody could use: those it refuses or mends.)

import { SmolVMError } from "../errors/smolvm-error.js";

/** What is there: names of tables, and of their columns in order, with ", " between. */
export type Shape = Readonly<Record<string, string>>;

/**
 * SQL, or what makes it once it has looked at the database that is there. Foreign keys are not enforced meanwhile.
 * Whatever it throws leaves the database as it was.
 */
export type Migration = string | ((shape: Shape) => string);

/** A kind of database. Step N brings it from `user_version` N to N + 1. */
export interface Schema {
  /** Name of the file in its directory. */
  readonly file: string;
  readonly migrations: readonly Migration[];
}

const LOCKS = `
  CREATE TABLE locks (
    name       TEXT PRIMARY KEY,
    pid        INTEGER NOT NULL,
    start_time TEXT NOT NULL,
    boot_id    TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
`;

const PORT_COLUMNS = "id, vm_id, host_address, host_port, guest_port, origin";
const KEEP_PORTS = `INSERT INTO new_ports SELECT ${PORT_COLUMNS} FROM ports;`;

/** What older rows do not tell is in the VM's record: the order in which its ports were asked for, and its SSH server's. */
const DERIVE_PORTS = `
  WITH records AS (
    SELECT id, created_at_ms, CASE WHEN json_valid(spec) THEN spec ELSE '{}' END AS spec FROM vms
  )
  INSERT INTO new_ports (vm_id, host_address, host_port, guest_port, origin)
  SELECT port.vm_id, port.host_address, port.host_port, port.guest_port,
         CASE WHEN record.spec ->> '$.ssh.hostAddress' = port.host_address
               AND record.spec ->> '$.ssh.hostPort' = port.host_port THEN 'ssh' ELSE 'config' END
  FROM ports AS port JOIN records AS record ON record.id = port.vm_id
  ORDER BY record.created_at_ms, record.id,
           (SELECT asked.key FROM json_each(record.spec, '$.ports') AS asked
            WHERE asked.value ->> '$.hostAddress' = port.host_address
              AND asked.value ->> '$.hostPort' = port.host_port) NULLS LAST,
           port.host_address, port.host_port;
`;

/** Columns of `vms` that step 2 keeps: all. */
const VM_COLUMNS = `id, status, spec, failure, warnings, guest_number, transition, mover_pid, mover_start, mover_boot, \
keeper_pid, keeper_start, keeper_boot, created_at_ms, updated_at_ms`;

/** Columns of the first `captures`. */
const CAPTURE_COLUMNS = "id, kind, vm_id, name, spec, is_complete, maker_pid, maker_start, maker_boot, created_at_ms";
const NUMBERED_CAPTURE_COLUMNS = `number, ${CAPTURE_COLUMNS}`;

/** The columns that each table has had in version 1, at one time or another. Step 2 knows what to do with these alone. */
const VERSION_1: Readonly<Record<string, readonly string[]>> = {
  vms: [VM_COLUMNS],
  resources: ["id, vm_id, kind, name, pid, start_time, boot_id"],
  lanes: ["vm_id, lane, pid, start_time, boot_id"],
  ports: ["host_address, host_port, vm_id, guest_port", PORT_COLUMNS],
  verdicts: ["name, verdict, decided_at_ms"],
  retained_disks: ["path, base_path"],
  captures: [CAPTURE_COLUMNS, NUMBERED_CAPTURE_COLUMNS],
};

const CAPTURES = `
  CREATE TABLE captures (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    kind          TEXT NOT NULL CHECK (kind IN ('snapshot', 'checkpoint', 'base')),
    vm_id         TEXT NOT NULL,
    name          TEXT UNIQUE,
    spec          TEXT NOT NULL,
    is_complete   INTEGER NOT NULL DEFAULT 0,
    maker_pid     INTEGER,
    maker_start   TEXT,
    maker_boot    TEXT,
    created_at_ms INTEGER NOT NULL,
    CHECK (is_complete = 1 OR maker_pid IS NOT NULL)
  ) STRICT;
`;

/** They are numbered in the order in which they were made. Nothing refers to the table. */
const NUMBER_CAPTURES = `
  ALTER TABLE captures RENAME TO old_captures;
  ${CAPTURES}
  INSERT INTO captures (${CAPTURE_COLUMNS}) SELECT ${CAPTURE_COLUMNS} FROM old_captures ORDER BY created_at_ms, id;
  DROP TABLE old_captures;
`;

/** @throws {STORAGE_FAILED} when a table is missing, is not known, or has other columns. */
function requireVersion1(shape: Shape): void {
  const tables = new Set([...Object.keys(VERSION_1), ...Object.keys(shape)]);
  const strange = [...tables].find((table) => !VERSION_1[table]?.includes(shape[table] ?? ""));
  if (strange === undefined) return;
  const found = shape[strange] === undefined ? "is missing" : `has the columns ${shape[strange]}`;
  const text = `its table "${strange}" ${found}, as in no version that this program knows`;
  throw new SmolVMError("STORAGE_FAILED", text);
}

/** What the state directory knows of its VMs. */
const STATE_MIGRATIONS: readonly Migration[] = [
  `
  CREATE TABLE vms (
    id             TEXT PRIMARY KEY,
    status         TEXT NOT NULL CHECK (status IN ('created', 'running', 'paused', 'stopped', 'error')),
    spec           TEXT NOT NULL,
    failure        TEXT,
    warnings       TEXT NOT NULL DEFAULT '[]',
    guest_number   INTEGER NOT NULL UNIQUE,
    transition     TEXT CHECK (transition IN ('creating', 'starting', 'stopping', 'pausing', 'resuming', 'capturing',
                                              'rewinding', 'deleting')),
    mover_pid      INTEGER,
    mover_start    TEXT,
    mover_boot     TEXT,
    keeper_pid     INTEGER,
    keeper_start   TEXT,
    keeper_boot    TEXT,
    created_at_ms  INTEGER NOT NULL,
    updated_at_ms  INTEGER NOT NULL,
    CHECK ((transition IS NULL) = (mover_pid IS NULL))
  ) STRICT;

  CREATE TABLE resources (
    id         INTEGER PRIMARY KEY,
    vm_id      TEXT NOT NULL REFERENCES vms (id),
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    pid        INTEGER,
    start_time TEXT,
    boot_id    TEXT,
    UNIQUE (vm_id, kind, name)
  ) STRICT;

  CREATE TABLE lanes (
    vm_id      TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    lane       INTEGER NOT NULL,
    pid        INTEGER NOT NULL,
    start_time TEXT NOT NULL,
    boot_id    TEXT NOT NULL,
    PRIMARY KEY (vm_id, lane)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE ports (
    host_address TEXT NOT NULL,
    host_port    INTEGER NOT NULL,
    vm_id        TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    guest_port   INTEGER NOT NULL,
    PRIMARY KEY (host_address, host_port)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE verdicts (
    name           TEXT PRIMARY KEY,
    verdict        TEXT NOT NULL,
    decided_at_ms  INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  
  CREATE TABLE retained_disks (
    path      TEXT NOT NULL,
    base_path TEXT NOT NULL,
    PRIMARY KEY (path, base_path)
  ) STRICT, WITHOUT ROWID;
  ${CAPTURES}`,
  // A change of a VM's network, and ports that are listed in their order and tell why they are there. For a while step 1
  // made such tables itself, under the same version: those only get the names that all have. Rebuilt by making new tables
  // under other names (https://www.sqlite.org/lang_altertable.html#otheralter), as a CHECK cannot be replaced. The first
  // captures had no number.
  (shape) => {
    requireVersion1(shape);
    return `
  CREATE TABLE new_vms (
    id             TEXT PRIMARY KEY,
    status         TEXT NOT NULL CHECK (status IN ('created', 'running', 'paused', 'stopped', 'error')),
    spec           TEXT NOT NULL,
    failure        TEXT,
    warnings       TEXT NOT NULL DEFAULT '[]',
    guest_number   INTEGER NOT NULL UNIQUE,
    transition     TEXT CHECK (transition IN ('creating', 'starting', 'stopping', 'pausing', 'resuming', 'capturing',
                                              'rewinding', 'networking', 'deleting')),
    mover_pid      INTEGER,
    mover_start    TEXT,
    mover_boot     TEXT,
    keeper_pid     INTEGER,
    keeper_start   TEXT,
    keeper_boot    TEXT,
    created_at_ms  INTEGER NOT NULL,
    updated_at_ms  INTEGER NOT NULL,
    CHECK ((transition IS NULL) = (mover_pid IS NULL))
  ) STRICT;

  CREATE TABLE new_ports (
    id           INTEGER PRIMARY KEY,
    vm_id        TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    host_address TEXT NOT NULL,
    host_port    INTEGER NOT NULL,
    guest_port   INTEGER NOT NULL,
    origin       TEXT NOT NULL CHECK (origin IN ('config', 'ssh', 'expose')),
    UNIQUE (host_address, host_port)
  ) STRICT;

  INSERT INTO new_vms (${VM_COLUMNS}) SELECT ${VM_COLUMNS} FROM vms;
  ${shape["ports"] === PORT_COLUMNS ? KEEP_PORTS : DERIVE_PORTS}

  DROP TABLE ports;
  DROP TABLE vms;
  ALTER TABLE new_vms RENAME TO vms;
  ALTER TABLE new_ports RENAME TO ports;
  ${shape["captures"] === CAPTURE_COLUMNS ? NUMBER_CAPTURES : ""}
  `;
  },
];

/** What is known of the cache directory, which several state directories may share. */
const CACHE_MIGRATIONS = [
  `${LOCKS}
  CREATE TABLE tenants (
    state_dir TEXT PRIMARY KEY
  ) STRICT, WITHOUT ROWID;
  `,
];

/** What the VMs of a host share in a network namespace: TAP addresses, and what was switched on for them. */
const NETWORK_MIGRATIONS = [
  `
  CREATE TABLE pools (
    namespace  TEXT PRIMARY KEY,
    boot_id    TEXT NOT NULL,
    next_index INTEGER NOT NULL DEFAULT 0
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE leases (
    namespace      TEXT NOT NULL REFERENCES pools (namespace) ON DELETE CASCADE,
    lease_index    INTEGER NOT NULL,
    state_dir      TEXT,
    vm_id          TEXT,
    spec           TEXT,
    is_placed      INTEGER NOT NULL DEFAULT 0,
    released_at_ms INTEGER,
    PRIMARY KEY (namespace, lease_index),
    CHECK ((state_dir IS NULL) = (vm_id IS NULL)),
    CHECK (released_at_ms IS NOT NULL OR (state_dir IS NOT NULL AND spec IS NOT NULL))
  ) STRICT, WITHOUT ROWID;

  CREATE INDEX leases_by_owner ON leases (namespace, state_dir, vm_id);
  CREATE INDEX leases_by_release ON leases (namespace, released_at_ms);

  CREATE TABLE uplinks (
    namespace TEXT NOT NULL REFERENCES pools (namespace) ON DELETE CASCADE,
    device    TEXT NOT NULL,
    PRIMARY KEY (namespace, device)
  ) STRICT, WITHOUT ROWID;
  `,
];

export const STATE_SCHEMA: Schema = { file: "smolvm.db", migrations: STATE_MIGRATIONS };
export const CACHE_SCHEMA: Schema = { file: "cache.db", migrations: CACHE_MIGRATIONS };
export const NETWORK_SCHEMA: Schema = { file: "network.db", migrations: NETWORK_MIGRATIONS };
/** Holds nothing: a transaction on it is the lock. Apart from the leases, which are read and written under the lock. */
export const NETWORK_LOCK_SCHEMA: Schema = { file: "network-lock.db", migrations: [] };
