// The schema, as a list of steps. A step that has been released is never edited; a change is a new step.

/** Step N brings a database from `user_version` N to N + 1. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE vms (
    id             TEXT PRIMARY KEY,
    status         TEXT NOT NULL CHECK (status IN ('created', 'running', 'paused', 'stopped', 'error')),
    spec           TEXT NOT NULL,
    failure        TEXT,
    transition     TEXT CHECK (transition IN ('creating', 'starting', 'stopping', 'pausing', 'resuming', 'deleting')),
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

  CREATE TABLE locks (
    name       TEXT PRIMARY KEY,
    pid        INTEGER NOT NULL,
    start_time TEXT NOT NULL,
    boot_id    TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE verdicts (
    name           TEXT PRIMARY KEY,
    verdict        TEXT NOT NULL,
    decided_at_ms  INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
];
