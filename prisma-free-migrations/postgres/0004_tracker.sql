-- What the tracker around the pipeline needs: projects and who belongs to them, comments, posts, tokens, views.

-- used_at: the last login or refresh. user_agent: what logged in, as it named itself.
ALTER TABLE sessions ADD COLUMN used_at TIMESTAMPTZ;
ALTER TABLE sessions ADD COLUMN user_agent TEXT NOT NULL DEFAULT '';

-- Ways back in for who forgot a password, by digest; good once.
CREATE TABLE password_resets (
    digest     TEXT PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id),
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ
);
CREATE INDEX password_resets_user ON password_resets (user_id);

-- Tokens for machines, by digest.
CREATE TABLE api_tokens (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id),
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    used_at    TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    CONSTRAINT api_tokens_digest UNIQUE (digest)
);
CREATE INDEX api_tokens_user ON api_tokens (user_id, id);

-- Who did what to accounts, rights and settings. What happened to tasks and content is in their history and the log.
CREATE TABLE audit_log (
    id             UUID PRIMARY KEY,
    at             TIMESTAMPTZ NOT NULL,
    actor_id       UUID,
    action         TEXT NOT NULL,
    subject_type   TEXT NOT NULL,
    subject_id     UUID NOT NULL,
    project_id     UUID,
    detail         TEXT NOT NULL,
    correlation_id UUID NOT NULL
);
CREATE INDEX audit_log_actor ON audit_log (actor_id, id);
CREATE INDEX audit_log_subject ON audit_log (subject_id, id);
CREATE INDEX audit_log_action ON audit_log (action, id);

-- The lists are JSON arrays: statuses of {name, category} in their order, the others of words.
CREATE TABLE projects (
    id          UUID PRIMARY KEY,
    key         TEXT NOT NULL,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    visibility  TEXT NOT NULL,
    statuses    TEXT NOT NULL,
    task_types  TEXT NOT NULL,
    priorities  TEXT NOT NULL,
    resolutions TEXT NOT NULL,
    last_number BIGINT NOT NULL,
    archived_at TIMESTAMPTZ,
    version     BIGINT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL,
    CONSTRAINT projects_key UNIQUE (key)
) WITH (fillfactor = 70);
CREATE INDEX projects_visibility ON projects (visibility, id);

CREATE TABLE members (
    project_id UUID NOT NULL REFERENCES projects (id),
    user_id    UUID NOT NULL REFERENCES users (id),
    role       TEXT NOT NULL,
    added_at   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX members_user ON members (user_id, project_id);

CREATE TABLE categories (
    id         UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES projects (id),
    name       TEXT NOT NULL,
    position   BIGINT NOT NULL,
    CONSTRAINT categories_name UNIQUE (project_id, name)
);

CREATE TABLE labels (
    id          UUID PRIMARY KEY,
    project_id  UUID NOT NULL REFERENCES projects (id),
    name        TEXT NOT NULL,
    color       TEXT NOT NULL,
    description TEXT NOT NULL,
    CONSTRAINT labels_name UNIQUE (project_id, name)
);

-- How much of a project or task somebody wants to hear. chosen: by themselves; then no rule changes it.
CREATE TABLE watches (
    subject_type TEXT NOT NULL,
    subject_id   UUID NOT NULL,
    user_id      UUID NOT NULL,
    level        TEXT NOT NULL,
    chosen       BOOLEAN NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (subject_type, subject_id, user_id)
);

-- The inbox is listed without what is put away, however much that is.
DROP INDEX notifications_user;
CREATE INDEX notifications_user ON notifications (user_id, id) WHERE archived_at IS NULL;

-- When the next reminder of a task's due date is to be given; none is left without it. What is told is behind it.
ALTER TABLE tasks ADD COLUMN next_reminder_at TIMESTAMPTZ;
UPDATE tasks SET next_reminder_at = due_at - INTERVAL '1 day' WHERE due_at > now() - INTERVAL '3 days';
CREATE INDEX tasks_reminder ON tasks (next_reminder_at) WHERE next_reminder_at IS NOT NULL AND completed_at IS NULL;

-- Lists are ranges of these, one for each order. Most of what the intake makes is personal, without a due date or an
-- assignee: that goes into tasks_reporter alone, because a personal task that nobody changed is found by its id.
DROP INDEX tasks_reporter;
CREATE INDEX tasks_reporter ON tasks (reporter_id, id) WHERE project_id IS NULL;
CREATE INDEX tasks_reporter_updated ON tasks (reporter_id, updated_at, id)
    WHERE project_id IS NULL AND updated_at > created_at;
CREATE INDEX tasks_reporter_due ON tasks (reporter_id, due_at, id) WHERE project_id IS NULL AND due_at IS NOT NULL;
CREATE INDEX tasks_assignee_updated ON tasks (assignee_id, updated_at, id)
    WHERE assignee_id IS NOT NULL AND (project_id IS NOT NULL OR updated_at > created_at);
CREATE INDEX tasks_assignee_due ON tasks (assignee_id, due_at, id)
    WHERE assignee_id IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX tasks_updated ON tasks (updated_at, id) WHERE project_id IS NOT NULL OR updated_at > created_at;
CREATE INDEX tasks_due ON tasks (due_at, id) WHERE due_at IS NOT NULL;

-- Tasks of projects: of one, of many together, and by who reported them.
CREATE INDEX tasks_project_status ON tasks (project_id, status, id) WHERE project_id IS NOT NULL;
CREATE INDEX tasks_project_updated ON tasks (project_id, updated_at, id) WHERE project_id IS NOT NULL;
CREATE INDEX tasks_project_due ON tasks (project_id, due_at, id) WHERE project_id IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX tasks_in_projects ON tasks (id, project_id) WHERE project_id IS NOT NULL;
CREATE INDEX tasks_in_projects_reporter ON tasks (reporter_id, id) WHERE project_id IS NOT NULL;
CREATE INDEX tasks_category ON tasks (category_id, id) WHERE category_id IS NOT NULL;
CREATE INDEX tasks_text ON tasks USING gin (to_tsvector('simple', title || ' ' || description)) WHERE project_id IS NOT NULL;

-- What happened to a task after it was made, for as long as it is there.
CREATE TABLE task_history (
    task_id  UUID NOT NULL,
    event_id UUID NOT NULL,
    type     TEXT NOT NULL,
    actor_id UUID,
    version  BIGINT NOT NULL,
    at       TIMESTAMPTZ NOT NULL,
    data     TEXT NOT NULL,
    PRIMARY KEY (task_id, event_id)
);

-- mentions: a JSON array of the ids of users.
CREATE TABLE comments (
    id           UUID PRIMARY KEY,
    subject_type TEXT NOT NULL,
    subject_id   UUID NOT NULL,
    project_id   UUID,
    author_id    UUID NOT NULL,
    body         TEXT NOT NULL,
    mentions     TEXT NOT NULL,
    version      BIGINT NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    edited_at    TIMESTAMPTZ
);
CREATE INDEX comments_subject ON comments (subject_id, id);

-- Without a project it is news of the whole organisation.
CREATE TABLE posts (
    id            UUID PRIMARY KEY,
    project_id    UUID,
    author_id     UUID NOT NULL,
    title         TEXT NOT NULL,
    body          TEXT NOT NULL,
    status        TEXT NOT NULL,
    comment_count BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    updated_at    TIMESTAMPTZ NOT NULL,
    published_at  TIMESTAMPTZ
) WITH (fillfactor = 90);
CREATE INDEX posts_project ON posts (project_id, id);
CREATE INDEX posts_status ON posts (status, id);

-- Which build of each projection is shown; a rebuild fills another one beside it.
CREATE TABLE projections (
    name       TEXT PRIMARY KEY,
    build      BIGINT NOT NULL,
    rebuilt_at TIMESTAMPTZ
);
INSERT INTO projections (name, build) VALUES ('board', 1);

-- Tasks of projects as a board shows them. position: the last event that went in. gone: deleted, and kept without its
-- texts so that an older event does not bring it back.
CREATE TABLE board_cards (
    build         BIGINT NOT NULL,
    task_id       UUID NOT NULL,
    project_id    UUID NOT NULL,
    category_id   UUID,
    key           TEXT,
    title         TEXT NOT NULL,
    task_type     TEXT NOT NULL,
    status        TEXT NOT NULL,
    priority      TEXT NOT NULL,
    assignee_id   UUID,
    labels        TEXT NOT NULL,
    due_at        TIMESTAMPTZ,
    comment_count BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    position      BIGINT NOT NULL,
    gone          BOOLEAN NOT NULL,
    PRIMARY KEY (build, task_id)
) WITH (fillfactor = 80);
CREATE INDEX board_cards_column ON board_cards (build, project_id, status, task_id) WHERE NOT gone;

-- How many tasks stand in each status of a project.
CREATE TABLE board_counts (
    build      BIGINT NOT NULL,
    project_id UUID NOT NULL,
    status     TEXT NOT NULL,
    tasks      BIGINT NOT NULL,
    PRIMARY KEY (build, project_id, status)
) WITH (fillfactor = 50);

-- The last event of each project that its board holds.
CREATE TABLE board_projects (
    build      BIGINT NOT NULL,
    project_id UUID NOT NULL,
    position   BIGINT NOT NULL,
    PRIMARY KEY (build, project_id)
) WITH (fillfactor = 50);
