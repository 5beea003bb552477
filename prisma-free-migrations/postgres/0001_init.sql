-- People and machines with an account. Personal data stays here: events carry ids only.
CREATE TABLE users (
    id            UUID PRIMARY KEY,
    handle        TEXT NOT NULL,
    email         TEXT NOT NULL,
    name          TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    roles         TEXT NOT NULL,
    status        TEXT NOT NULL,
    timezone      TEXT NOT NULL,
    locale        TEXT NOT NULL,
    version       BIGINT NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    updated_at    TIMESTAMPTZ NOT NULL,
    CONSTRAINT users_handle UNIQUE (handle),
    CONSTRAINT users_email UNIQUE (email)
);

-- One row for each login. revoked_at is the truth about a token's sid.
CREATE TABLE sessions (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id),
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- A session's refresh tokens, by digest. A used one that comes back revokes the session.
CREATE TABLE refresh_tokens (
    id         UUID PRIMARY KEY,
    session_id UUID NOT NULL REFERENCES sessions (id),
    digest     TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ,
    CONSTRAINT refresh_tokens_digest UNIQUE (digest)
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

-- No foreign keys on the hot path: a key check locks the user's row for every task, and users are never deleted.
CREATE TABLE tasks (
    id              UUID PRIMARY KEY,
    key             TEXT,
    project_id      UUID,
    category_id     UUID,
    task_type       TEXT NOT NULL,
    title           TEXT NOT NULL,
    description     TEXT NOT NULL,
    status          TEXT NOT NULL,
    status_category TEXT NOT NULL,
    priority        TEXT NOT NULL,
    resolution      TEXT,
    assignee_id     UUID,
    reporter_id     UUID NOT NULL,
    labels          TEXT NOT NULL,
    due_at          TIMESTAMPTZ,
    comment_count   BIGINT NOT NULL DEFAULT 0,
    version         BIGINT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL,
    completed_at    TIMESTAMPTZ,
    CONSTRAINT tasks_title CHECK (length(title) BETWEEN 1 AND 200),
    CONSTRAINT tasks_resolution CHECK ((completed_at IS NULL) = (resolution IS NULL))
) WITH (fillfactor = 90);
CREATE INDEX tasks_reporter ON tasks (reporter_id, id);
CREATE INDEX tasks_assignee ON tasks (assignee_id, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX tasks_project ON tasks (project_id, id) WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX tasks_key ON tasks (key) WHERE key IS NOT NULL;

-- The last position given out. On Postgres the lock on its one row is the sequencer's fence.
CREATE TABLE log_head (
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    position BIGINT NOT NULL
);
INSERT INTO log_head (id, position) VALUES (1, 0);

-- The append-only event store: dense positions from 1.
CREATE TABLE events (
    position          BIGINT NOT NULL,
    id                UUID NOT NULL,
    type              TEXT NOT NULL,
    aggregate_id      UUID NOT NULL,
    aggregate_version BIGINT NOT NULL,
    actor_id          UUID,
    project_id        UUID,
    owner_id          UUID,
    assignee_id       UUID,
    correlation_id    UUID NOT NULL,
    causation_id      UUID,
    traceparent       TEXT,
    at                TIMESTAMPTZ NOT NULL,
    data              TEXT NOT NULL,
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);
CREATE INDEX events_id ON events (id);
-- The first range; the sequencer makes the next ones ahead of time.
CREATE TABLE events_p0 PARTITION OF events FOR VALUES FROM (0) TO (4000000);

-- Committed events that wait for the sequencer to give them a position. The sequence keeps no cache, so that
-- the numbers of one aggregate's events grow in the order of their commits.
CREATE TABLE outbox (
    seq               BIGINT GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    id                UUID NOT NULL,
    type              TEXT NOT NULL,
    aggregate_id      UUID NOT NULL,
    aggregate_version BIGINT NOT NULL,
    actor_id          UUID,
    project_id        UUID,
    owner_id          UUID,
    assignee_id       UUID,
    correlation_id    UUID NOT NULL,
    causation_id      UUID,
    traceparent       TEXT,
    at                TIMESTAMPTZ NOT NULL,
    data              TEXT NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- The answers given under an Idempotency-Key, for 24 hours.
CREATE TABLE idempotency_keys (
    user_id    UUID NOT NULL,
    route      TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  TEXT NOT NULL,
    status     BIGINT NOT NULL,
    location   TEXT,
    etag       TEXT,
    event_id   UUID,
    body       TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, route, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- How far each consumer group has applied each partition; the local log's partition is ''.
CREATE TABLE group_progress (
    group_name TEXT NOT NULL,
    partition  TEXT NOT NULL,
    position   BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (group_name, partition)
) WITH (fillfactor = 90);

-- The inbox.
CREATE TABLE notifications (
    id            UUID PRIMARY KEY,
    user_id       UUID NOT NULL,
    type          TEXT NOT NULL,
    reason        TEXT NOT NULL,
    title         TEXT NOT NULL,
    body          TEXT NOT NULL,
    subject_type  TEXT NOT NULL,
    subject_id    UUID NOT NULL,
    event_id      UUID NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    read_at       TIMESTAMPTZ,
    archived_at   TIMESTAMPTZ,
    snoozed_until TIMESTAMPTZ,
    CONSTRAINT notifications_once UNIQUE (event_id, user_id)
);
CREATE INDEX notifications_user ON notifications (user_id, id);
CREATE INDEX notifications_unread ON notifications (user_id, id) WHERE read_at IS NULL AND archived_at IS NULL;

-- What was decided for each event, user and channel, sent or not.
CREATE TABLE decisions (
    event_id    UUID NOT NULL,
    user_id     UUID NOT NULL,
    channel     TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    reason      TEXT NOT NULL,
    rule        TEXT NOT NULL,
    delivery_id UUID,
    at          TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (event_id, user_id, channel)
);

-- Receivers of webhooks.
CREATE TABLE endpoints (
    id              UUID PRIMARY KEY,
    user_id         UUID NOT NULL REFERENCES users (id),
    project_id      UUID,
    url             TEXT NOT NULL,
    event_types     TEXT NOT NULL,
    description     TEXT NOT NULL,
    secret          TEXT NOT NULL,
    previous_secret TEXT,
    previous_until  TIMESTAMPTZ,
    enabled         BOOLEAN NOT NULL,
    disabled_reason TEXT,
    failing_since   TIMESTAMPTZ,
    version         BIGINT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL
);
CREATE INDEX endpoints_user ON endpoints (user_id, id);

-- One notification or event on one channel. due_at decides: a lease moves it to the lease's end,
-- so that a row whose worker died falls due again; lease counts up and fences the late one.
CREATE TABLE deliveries (
    id              UUID PRIMARY KEY,
    channel         TEXT NOT NULL,
    class           TEXT NOT NULL,
    state           TEXT NOT NULL,
    event_id        UUID NOT NULL,
    user_id         UUID,
    endpoint_id     UUID,
    notification_id UUID,
    payload         TEXT NOT NULL,
    attempt         BIGINT NOT NULL,
    lease           BIGINT NOT NULL,
    due_at          TIMESTAMPTZ NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL,
    finished_at     TIMESTAMPTZ
) WITH (fillfactor = 90);
CREATE INDEX deliveries_due ON deliveries (channel, class, due_at) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX deliveries_user ON deliveries (event_id, user_id, channel) WHERE user_id IS NOT NULL;
CREATE UNIQUE INDEX deliveries_endpoint ON deliveries (event_id, endpoint_id) WHERE endpoint_id IS NOT NULL;

-- Every try of a delivery.
CREATE TABLE attempts (
    id          UUID PRIMARY KEY,
    delivery_id UUID NOT NULL,
    number      BIGINT NOT NULL,
    outcome     TEXT NOT NULL,
    status_code BIGINT,
    error       TEXT,
    excerpt     TEXT,
    started_at  TIMESTAMPTZ NOT NULL,
    duration_ms BIGINT NOT NULL
);
CREATE INDEX attempts_delivery ON attempts (delivery_id, number);

-- What could not be handled, whole, with its history.
CREATE TABLE dead_letters (
    id             UUID PRIMARY KEY,
    source         TEXT NOT NULL,
    handler        TEXT NOT NULL,
    event_id       UUID,
    position       BIGINT,
    delivery_id    UUID,
    reason         TEXT NOT NULL,
    fingerprint    TEXT NOT NULL,
    attempts       TEXT NOT NULL,
    payload        TEXT NOT NULL,
    state          TEXT NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    resolved_at    TIMESTAMPTZ,
    resolved_by    UUID,
    resolve_reason TEXT
);
CREATE INDEX dead_letters_state ON dead_letters (state, id);
