// The tables of state databases as earlier checkouts made them, word for word, and rows for each. All are version 1.

const FIRST_TABLES = `
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

`;

/** Their SQL, by what they are called in the names of tests. */
export const EARLIER_SHAPES: Readonly<Record<string, string>> = {
  "of before captures were numbered": `${FIRST_TABLES}  CREATE TABLE captures (
    id            TEXT PRIMARY KEY,
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
  ) STRICT, WITHOUT ROWID;
  `,
  "of before networks could change": `${FIRST_TABLES}  CREATE TABLE captures (
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
  `,
  "of while step 1 was changed in place": `
  CREATE TABLE vms (
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
    id           INTEGER PRIMARY KEY,
    vm_id        TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    host_address TEXT NOT NULL,
    host_port    INTEGER NOT NULL,
    guest_port   INTEGER NOT NULL,
    origin       TEXT NOT NULL CHECK (origin IN ('config', 'ssh', 'expose')),
    UNIQUE (host_address, host_port)
  ) STRICT;

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
  `,
};

const RECORD = {
  networkMode: "user",
  ports: [
    { hostAddress: "127.0.0.1", hostPort: 9090, guestPort: 81 },
    { hostAddress: "0.0.0.0", hostPort: 8080, guestPort: 80 },
  ],
  ssh: { hostAddress: "127.0.0.1", hostPort: 4022, guestPort: 22 },
};

/** What all shapes can hold: a VM that runs, one that is being stopped, one that failed, and one whose record is no JSON. */
export const ROWS_OF_ALL = `
  INSERT INTO vms VALUES
    ('run', 'running', '${JSON.stringify(RECORD)}', NULL, '["slow"]', 0, NULL, NULL, NULL, NULL, 7, '70', 'boot', 10, 11),
    ('halt', 'running', '{"ports":[]}', NULL, '[]', 3, 'stopping', 8, '80', 'boot', NULL, NULL, NULL, 20, 21),
    ('dark', 'error', '{}', '{"code":"VMM_ENDED","message":"x"}', '[]', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 15, 16),
    ('odd', 'stopped', 'no JSON', NULL, '[]', 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 30, 31);
  INSERT INTO resources VALUES
    (4, 'run', 'process', 'vmm', 9, '90', 'boot'), (9, 'run', 'runtime', '/run/x', NULL, NULL, NULL),
    (12, 'halt', 'directory', '/x/halt', NULL, NULL, NULL);
  INSERT INTO lanes VALUES ('run', 3, 10, '100', 'boot');
  INSERT INTO verdicts VALUES ('kvm', 'yes', 1);
  INSERT INTO retained_disks VALUES ('/a', '/b'), ('/a', '/c');
`;

const PORTS_WITHOUT_ORDER = `
  INSERT INTO ports VALUES
    ('0.0.0.0', 8080, 'run', 80), ('127.0.0.1', 1024, 'odd', 1), ('127.0.0.1', 4022, 'run', 22),
    ('127.0.0.1', 4023, 'halt', 22), ('127.0.0.1', 9090, 'run', 81);
  `;

/** Host ports, in the columns of each shape. */
export const ROWS_OF_PORTS: Readonly<Record<string, string>> = {
  "of before captures were numbered": PORTS_WITHOUT_ORDER,
  "of before networks could change": PORTS_WITHOUT_ORDER,
  "of while step 1 was changed in place": `
  INSERT INTO ports VALUES
    (2, 'run', '0.0.0.0', 8080, 80, 'expose'), (3, 'odd', '127.0.0.1', 1024, 1, 'config'), (5, 'run', '127.0.0.1', 4022, 22, 'ssh'),
    (8, 'halt', '127.0.0.1', 4023, 22, 'expose'), (9, 'run', '127.0.0.1', 9090, 81, 'config');
  `,
};

const NUMBERED_CAPTURES = `
  INSERT INTO captures VALUES
    (2, 'snap-1', 'snapshot', 'run', 'clean', '{}', 1, NULL, NULL, NULL, 5), (6, 'base-1', 'base', 'run', NULL, '{}', 0, 11, '110', 'boot', 6);
`;

/** Captures, in the columns of each shape. Those of `WITHOUT ROWID` tables come in the order of their ids. */
export const ROWS_OF_CAPTURES: Readonly<Record<string, string>> = {
  "of before captures were numbered": `
  INSERT INTO captures VALUES
    ('snap-1', 'snapshot', 'run', 'clean', '{}', 1, NULL, NULL, NULL, 5), ('base-1', 'base', 'run', NULL, '{}', 0, 11, '110', 'boot', 6);
  `,
  "of before networks could change": NUMBERED_CAPTURES,
  "of while step 1 was changed in place": NUMBERED_CAPTURES,
};
