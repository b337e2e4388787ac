-- Version 2. Times are UTC in milliseconds since the epoch, volumes in lots.

CREATE TABLE signals (
    id           INTEGER PRIMARY KEY,
    key          TEXT    NOT NULL UNIQUE,
    signal_id    TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    "offset"     INTEGER NOT NULL,
    account      TEXT    NOT NULL,
    symbol       TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    payload      BLOB    NOT NULL,
    received_msc INTEGER NOT NULL,
    status       TEXT,              -- NULL until the final result
    reason       TEXT,
    event_id     TEXT,
    result       BLOB,
    settled_msc  INTEGER,
    request_id,                     -- of who sent it, a text or a number as it was; NULL: none
    sender       TEXT,              -- who sent it, where that is known
    correlation  TEXT               -- id of the HTTP request that brought it; NULL: none did
);
CREATE INDEX signals_by_signal_id ON signals (signal_id);
CREATE INDEX signals_by_request ON signals (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX signals_by_correlation ON signals (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX signals_by_received ON signals (received_msc);
CREATE INDEX signals_waiting ON signals (id) WHERE status IS NULL;

CREATE TABLE corrections (
    event_id   TEXT    PRIMARY KEY,
    key        TEXT    NOT NULL,
    supersedes TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    result     BLOB    NOT NULL,
    at_msc     INTEGER NOT NULL
);
CREATE INDEX corrections_by_key ON corrections (key);

CREATE TABLE intents (
    magic         INTEGER PRIMARY KEY,
    key           TEXT    NOT NULL,
    leg           INTEGER NOT NULL,
    symbol        TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    request       BLOB    NOT NULL,
    state         TEXT    NOT NULL,
    opened_msc    INTEGER NOT NULL,
    moved_msc     INTEGER NOT NULL,
    volume        REAL    NOT NULL,
    risk          REAL,
    retcode       INTEGER,
    "order"       INTEGER,
    deal          INTEGER,
    position      INTEGER,
    filled_volume REAL,
    price         REAL,
    detail        TEXT
);
CREATE INDEX intents_by_key ON intents (key, leg);
CREATE INDEX intents_by_opened ON intents (opened_msc);
CREATE INDEX intents_open ON intents (opened_msc) WHERE state IN ('sending', 'unknown');

CREATE TABLE offsets (
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

-- AUTOINCREMENT: an id is never given twice, so a late acknowledgement cannot delete a newer row.
CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    channel  TEXT    NOT NULL,
    event_id TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    payload  BLOB    NOT NULL,
    at_msc   INTEGER NOT NULL
);
CREATE INDEX outbox_by_channel ON outbox (channel, id);

CREATE TABLE cursors (
    symbol   TEXT    PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    time_msc INTEGER NOT NULL,
    count    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE halts (
    id     INTEGER PRIMARY KEY,
    state  TEXT    NOT NULL,
    reason TEXT    NOT NULL,
    "by"   TEXT    NOT NULL,
    at_msc INTEGER NOT NULL,
    origin TEXT    NOT NULL,
    until_day TEXT              -- a daily limit's latch ends with that trading day; NULL: only a person ends it
);

CREATE TABLE commands (
    request_id TEXT    PRIMARY KEY,
    command    TEXT    NOT NULL,
    answer     BLOB    NOT NULL,
    at_msc     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX commands_by_time ON commands (at_msc);

CREATE TABLE memos (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    at_msc INTEGER NOT NULL,
    who    TEXT    NOT NULL,
    what   TEXT    NOT NULL,
    detail TEXT    NOT NULL
);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
