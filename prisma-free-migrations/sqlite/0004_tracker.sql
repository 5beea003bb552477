-- What the tracker around the pipeline needs: projects and who belongs to them, comments, posts, tokens, views.

-- used_at: the last login or refresh. user_agent: what logged in, as it named itself.
ALTER TABLE sessions ADD COLUMN used_at TEXT;
ALTER TABLE sessions ADD COLUMN user_agent TEXT NOT NULL DEFAULT '';

-- Ways back in for who forgot a password, by digest; good once.
CREATE TABLE password_resets (
    digest     TEXT PRIMARY KEY,
    user_id    BLOB NOT NULL REFERENCES users (id),
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_at    TEXT
) STRICT;
CREATE INDEX password_resets_user ON password_resets (user_id);

-- Tokens for machines, by digest.
CREATE TABLE api_tokens (
    id         BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL REFERENCES users (id),
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    used_at    TEXT,
    revoked_at TEXT,
    CONSTRAINT api_tokens_digest UNIQUE (digest)
) STRICT;
CREATE INDEX api_tokens_user ON api_tokens (user_id, id);

-- Who did what to accounts, rights and settings. What happened to tasks and content is in their history and the log.
CREATE TABLE audit_log (
    id             BLOB PRIMARY KEY,
    at             TEXT NOT NULL,
    actor_id       BLOB,
    action         TEXT NOT NULL,
    subject_type   TEXT NOT NULL,
    subject_id     BLOB NOT NULL,
    project_id     BLOB,
    detail         TEXT NOT NULL,
    correlation_id BLOB NOT NULL
) STRICT;
CREATE INDEX audit_log_actor ON audit_log (actor_id, id);
CREATE INDEX audit_log_subject ON audit_log (subject_id, id);
CREATE INDEX audit_log_action ON audit_log (action, id);

-- The lists are JSON arrays: statuses of {name, category} in their order, the others of words.
CREATE TABLE projects (
    id          BLOB PRIMARY KEY,
    key         TEXT NOT NULL,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    visibility  TEXT NOT NULL,
    statuses    TEXT NOT NULL,
    task_types  TEXT NOT NULL,
    priorities  TEXT NOT NULL,
    resolutions TEXT NOT NULL,
    last_number INTEGER NOT NULL,
    archived_at TEXT,
    version     INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    CONSTRAINT projects_key UNIQUE (key)
) STRICT;
CREATE INDEX projects_visibility ON projects (visibility, id);

CREATE TABLE members (
    project_id BLOB NOT NULL REFERENCES projects (id),
    user_id    BLOB NOT NULL REFERENCES users (id),
    role       TEXT NOT NULL,
    added_at   TEXT NOT NULL,
    PRIMARY KEY (project_id, user_id)
) STRICT;
CREATE INDEX members_user ON members (user_id, project_id);

CREATE TABLE categories (
    id         BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    name       TEXT NOT NULL,
    position   INTEGER NOT NULL,
    CONSTRAINT categories_name UNIQUE (project_id, name)
) STRICT;

CREATE TABLE labels (
    id          BLOB PRIMARY KEY,
    project_id  BLOB NOT NULL REFERENCES projects (id),
    name        TEXT NOT NULL,
    color       TEXT NOT NULL,
    description TEXT NOT NULL,
    CONSTRAINT labels_name UNIQUE (project_id, name)
) STRICT;

-- How much of a project or task somebody wants to hear. chosen: by themselves; then no rule changes it.
CREATE TABLE watches (
    subject_type TEXT NOT NULL,
    subject_id   BLOB NOT NULL,
    user_id      BLOB NOT NULL,
    level        TEXT NOT NULL,
    chosen       INTEGER NOT NULL,
    updated_at   TEXT NOT NULL,
    PRIMARY KEY (subject_type, subject_id, user_id)
) STRICT;

-- The inbox is listed without what is put away, however much that is.
DROP INDEX notifications_user;
CREATE INDEX notifications_user ON notifications (user_id, id) WHERE archived_at IS NULL;

-- When the next reminder of a task's due date is to be given; none is left without it. What is told is behind it.
ALTER TABLE tasks ADD COLUMN next_reminder_at TEXT;
UPDATE tasks SET next_reminder_at = strftime('%Y-%m-%dT%H:%M:%f', due_at, '-1 day') || '+00:00'
    WHERE julianday(due_at) > julianday('now', '-3 days');
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

-- The words of tasks in projects. The numbers tie them to their tasks, whose own row numbers may change.
CREATE TABLE task_numbers (
    number  INTEGER PRIMARY KEY,
    task_id BLOB NOT NULL UNIQUE
) STRICT;
CREATE VIRTUAL TABLE task_text USING fts5 (title, description, content = '', contentless_delete = 1, tokenize = 'unicode61');
CREATE TRIGGER task_text_made AFTER INSERT ON tasks WHEN new.project_id IS NOT NULL BEGIN
    INSERT INTO task_numbers (task_id) VALUES (new.id);
    INSERT INTO task_text (rowid, title, description)
    SELECT number, new.title, new.description FROM task_numbers WHERE task_id = new.id;
END;
CREATE TRIGGER task_text_changed AFTER UPDATE OF title, description ON tasks WHEN new.project_id IS NOT NULL BEGIN
    UPDATE task_text SET title = new.title, description = new.description
    WHERE rowid = (SELECT number FROM task_numbers WHERE task_id = new.id);
END;
CREATE TRIGGER task_text_gone AFTER DELETE ON tasks WHEN old.project_id IS NOT NULL BEGIN
    DELETE FROM task_text WHERE rowid = (SELECT number FROM task_numbers WHERE task_id = old.id);
    DELETE FROM task_numbers WHERE task_id = old.id;
END;

-- What happened to a task after it was made, for as long as it is there.
CREATE TABLE task_history (
    task_id  BLOB NOT NULL,
    event_id BLOB NOT NULL,
    type     TEXT NOT NULL,
    actor_id BLOB,
    version  INTEGER NOT NULL,
    at       TEXT NOT NULL,
    data     TEXT NOT NULL,
    PRIMARY KEY (task_id, event_id)
) STRICT;

-- mentions: a JSON array of the ids of users.
CREATE TABLE comments (
    id           BLOB PRIMARY KEY,
    subject_type TEXT NOT NULL,
    subject_id   BLOB NOT NULL,
    project_id   BLOB,
    author_id    BLOB NOT NULL,
    body         TEXT NOT NULL,
    mentions     TEXT NOT NULL,
    version      INTEGER NOT NULL,
    created_at   TEXT NOT NULL,
    edited_at    TEXT
) STRICT;
CREATE INDEX comments_subject ON comments (subject_id, id);

-- Without a project it is news of the whole organisation.
CREATE TABLE posts (
    id            BLOB PRIMARY KEY,
    project_id    BLOB,
    author_id     BLOB NOT NULL,
    title         TEXT NOT NULL,
    body          TEXT NOT NULL,
    status        TEXT NOT NULL,
    comment_count INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL,
    published_at  TEXT
) STRICT;
CREATE INDEX posts_project ON posts (project_id, id);
CREATE INDEX posts_status ON posts (status, id);

-- Which build of each projection is shown; a rebuild fills another one beside it.
CREATE TABLE projections (
    name       TEXT PRIMARY KEY,
    build      INTEGER NOT NULL,
    rebuilt_at TEXT
) STRICT;
INSERT INTO projections (name, build) VALUES ('board', 1);

-- Tasks of projects as a board shows them. position: the last event that went in. gone: deleted, and kept without its
-- texts so that an older event does not bring it back.
CREATE TABLE board_cards (
    build         INTEGER NOT NULL,
    task_id       BLOB NOT NULL,
    project_id    BLOB NOT NULL,
    category_id   BLOB,
    key           TEXT,
    title         TEXT NOT NULL,
    task_type     TEXT NOT NULL,
    status        TEXT NOT NULL,
    priority      TEXT NOT NULL,
    assignee_id   BLOB,
    labels        TEXT NOT NULL,
    due_at        TEXT,
    comment_count INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    gone          INTEGER NOT NULL,
    PRIMARY KEY (build, task_id)
) STRICT;
CREATE INDEX board_cards_column ON board_cards (build, project_id, status, task_id) WHERE NOT gone;

-- How many tasks stand in each status of a project.
CREATE TABLE board_counts (
    build      INTEGER NOT NULL,
    project_id BLOB NOT NULL,
    status     TEXT NOT NULL,
    tasks      INTEGER NOT NULL,
    PRIMARY KEY (build, project_id, status)
) STRICT;

-- The last event of each project that its board holds.
CREATE TABLE board_projects (
    build      INTEGER NOT NULL,
    project_id BLOB NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (build, project_id)
) STRICT;
