-- People and machines with an account. Personal data stays here: events carry ids only.
CREATE TABLE users (
    id            BLOB PRIMARY KEY,
    handle        TEXT NOT NULL,
    email         TEXT NOT NULL,
    name          TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    roles         TEXT NOT NULL,
    status        TEXT NOT NULL,
    timezone      TEXT NOT NULL,
    locale        TEXT NOT NULL,
    version       INTEGER NOT NULL,
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL,
    CONSTRAINT users_handle UNIQUE (handle),
    CONSTRAINT users_email UNIQUE (email)
) STRICT;

-- One row for each login. revoked_at is the truth about a token's sid.
CREATE TABLE sessions (
    id         BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL REFERENCES users (id),
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    revoked_at TEXT
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- A session's refresh tokens, by digest. A used one that comes back revokes the session.
CREATE TABLE refresh_tokens (
    id         BLOB PRIMARY KEY,
    session_id BLOB NOT NULL REFERENCES sessions (id),
    digest     TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_at    TEXT,
    CONSTRAINT refresh_tokens_digest UNIQUE (digest)
) STRICT;
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

-- No foreign keys on the hot path: a key check locks the user's row for every task, and users are never deleted.
CREATE TABLE tasks (
    id              BLOB PRIMARY KEY,
    key             TEXT,
    project_id      BLOB,
    category_id     BLOB,
    task_type       TEXT NOT NULL,
    title           TEXT NOT NULL,
    description     TEXT NOT NULL,
    status          TEXT NOT NULL,
    status_category TEXT NOT NULL,
    priority        TEXT NOT NULL,
    resolution      TEXT,
    assignee_id     BLOB,
    reporter_id     BLOB NOT NULL,
    labels          TEXT NOT NULL,
    due_at          TEXT,
    comment_count   INTEGER NOT NULL DEFAULT 0,
    version         INTEGER NOT NULL,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL,
    completed_at    TEXT,
    CONSTRAINT tasks_title CHECK (length(title) BETWEEN 1 AND 200),
    CONSTRAINT tasks_resolution CHECK ((completed_at IS NULL) = (resolution IS NULL))
) STRICT;
CREATE INDEX tasks_reporter ON tasks (reporter_id, id);
CREATE INDEX tasks_assignee ON tasks (assignee_id, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX tasks_project ON tasks (project_id, id) WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX tasks_key ON tasks (key) WHERE key IS NOT NULL;

-- The last position given out. On Postgres the lock on its one row is the sequencer's fence.
CREATE TABLE log_head (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL
) STRICT;
INSERT INTO log_head (id, position) VALUES (1, 0);

-- The append-only event store: dense positions from 1.
CREATE TABLE events (
    position          INTEGER NOT NULL PRIMARY KEY,
    id                BLOB NOT NULL,
    type              TEXT NOT NULL,
    aggregate_id      BLOB NOT NULL,
    aggregate_version INTEGER NOT NULL,
    actor_id          BLOB,
    project_id        BLOB,
    owner_id          BLOB,
    assignee_id       BLOB,
    correlation_id    BLOB NOT NULL,
    causation_id      BLOB,
    traceparent       TEXT,
    at                TEXT NOT NULL,
    data              TEXT NOT NULL
) STRICT;
CREATE INDEX events_id ON events (id);

-- The answers given under an Idempotency-Key, for 24 hours.
CREATE TABLE idempotency_keys (
    user_id    BLOB NOT NULL,
    route      TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  TEXT NOT NULL,
    status     INTEGER NOT NULL,
    location   TEXT,
    etag       TEXT,
    event_id   BLOB,
    body       TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (user_id, route, key)
) STRICT;
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- How far each consumer group has applied each partition; the local log's partition is ''.
CREATE TABLE group_progress (
    group_name TEXT NOT NULL,
    partition  TEXT NOT NULL,
    position   INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (group_name, partition)
) STRICT;

-- The inbox.
CREATE TABLE notifications (
    id            BLOB PRIMARY KEY,
    user_id       BLOB NOT NULL,
    type          TEXT NOT NULL,
    reason        TEXT NOT NULL,
    title         TEXT NOT NULL,
    body          TEXT NOT NULL,
    subject_type  TEXT NOT NULL,
    subject_id    BLOB NOT NULL,
    event_id      BLOB NOT NULL,
    created_at    TEXT NOT NULL,
    read_at       TEXT,
    archived_at   TEXT,
    snoozed_until TEXT,
    CONSTRAINT notifications_once UNIQUE (event_id, user_id)
) STRICT;
CREATE INDEX notifications_user ON notifications (user_id, id);
CREATE INDEX notifications_unread ON notifications (user_id, id) WHERE read_at IS NULL AND archived_at IS NULL;

-- What was decided for each event, user and channel, sent or not.
CREATE TABLE decisions (
    event_id    BLOB NOT NULL,
    user_id     BLOB NOT NULL,
    channel     TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    reason      TEXT NOT NULL,
    rule        TEXT NOT NULL,
    delivery_id BLOB,
    at          TEXT NOT NULL,
    PRIMARY KEY (event_id, user_id, channel)
) STRICT;

-- Receivers of webhooks.
CREATE TABLE endpoints (
    id              BLOB PRIMARY KEY,
    user_id         BLOB NOT NULL REFERENCES users (id),
    project_id      BLOB,
    url             TEXT NOT NULL,
    event_types     TEXT NOT NULL,
    description     TEXT NOT NULL,
    secret          TEXT NOT NULL,
    previous_secret TEXT,
    previous_until  TEXT,
    enabled         INTEGER NOT NULL,
    disabled_reason TEXT,
    failing_since   TEXT,
    version         INTEGER NOT NULL,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL
) STRICT;
CREATE INDEX endpoints_user ON endpoints (user_id, id);

-- One notification or event on one channel. due_at decides: a lease moves it to the lease's end,
-- so that a row whose worker died falls due again; lease counts up and fences the late one.
CREATE TABLE deliveries (
    id              BLOB PRIMARY KEY,
    channel         TEXT NOT NULL,
    class           TEXT NOT NULL,
    state           TEXT NOT NULL,
    event_id        BLOB NOT NULL,
    user_id         BLOB,
    endpoint_id     BLOB,
    notification_id BLOB,
    payload         TEXT NOT NULL,
    attempt         INTEGER NOT NULL,
    lease           INTEGER NOT NULL,
    due_at          TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL,
    finished_at     TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (channel, class, due_at) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX deliveries_user ON deliveries (event_id, user_id, channel) WHERE user_id IS NOT NULL;
CREATE UNIQUE INDEX deliveries_endpoint ON deliveries (event_id, endpoint_id) WHERE endpoint_id IS NOT NULL;

-- Every try of a delivery.
CREATE TABLE attempts (
    id          BLOB PRIMARY KEY,
    delivery_id BLOB NOT NULL,
    number      INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    status_code INTEGER,
    error       TEXT,
    excerpt     TEXT,
    started_at  TEXT NOT NULL,
    duration_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_delivery ON attempts (delivery_id, number);

-- What could not be handled, whole, with its history.
CREATE TABLE dead_letters (
    id             BLOB PRIMARY KEY,
    source         TEXT NOT NULL,
    handler        TEXT NOT NULL,
    event_id       BLOB,
    position       INTEGER,
    delivery_id    BLOB,
    reason         TEXT NOT NULL,
    fingerprint    TEXT NOT NULL,
    attempts       TEXT NOT NULL,
    payload        TEXT NOT NULL,
    state          TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    resolved_at    TEXT,
    resolved_by    BLOB,
    resolve_reason TEXT
) STRICT;
CREATE INDEX dead_letters_state ON dead_letters (state, id);
