//! Posts: from draft to published and back, who sees and does what, and what becomes of them with a project.

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    a_post_is_written_published_and_taken_back,
    what_does_not_fit_is_refused,
    of_two_changes_to_one_version_one_wins,
    everyone_does_what_they_may,
    a_draft_is_told_to_few,
    news_are_the_admins_to_write,
    lists_hold_what_one_may_see,
    a_project_that_is_put_away_takes_none,
    a_deleted_project_takes_its_posts,
);

const NOBODY: &str = "0198f0c0-0000-7000-8000-000000000000";

/// Where a thing is.
fn path(kind: &str, thing: &Value) -> String {
    format!("/v1/{kind}/{}", thing.text("id"))
}

/// Writes a draft, and publishes it if it should be.
async fn post(app: &TestApp, user: &User, fields: Value, published: bool) -> Value {
    let draft = app.post("/v1/posts", fields).as_(user).expect(201).await.json();
    if !published {
        return draft;
    }
    app.post(&format!("{}/publish", path("posts", &draft)), None).as_(user).expect(200).await.json()
}

async fn a_post_is_written_published_and_taken_back(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_root, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    let fields = json!({"title": "Réparé 🛗", "body": "a\n\nb", "project_id": project["id"]});
    let create = || app.post("/v1/posts", fields.clone()).as_(&ada).key("k");
    let answer = create().expect(201).await;
    let draft = answer.json();
    let one = path("posts", &draft);
    assert_eq!((answer.header("location"), answer.header("etag")), (one.as_str(), "\"v1.0\""));
    for (name, value) in fields.as_object().into_iter().flatten() {
        assert_eq!(draft[name], *value, "{name}");
    }
    assert_eq!((draft.text("status"), draft.text("author_id")), ("draft", ada.id.as_str()));
    assert_eq!((&draft["published_at"], draft.int("comment_count")), (&Value::Null, 0));
    assert_eq!(create().expect(201).await.json(), draft);
    assert_eq!(app.list(&ada, "/v1/posts").await, std::slice::from_ref(&draft));
    let read = app.get(&one).as_(&ada).expect(200).await;
    assert_eq!((read.header("etag"), read.json()), ("\"v1.0\"", draft.clone()));
    app.get(&one).as_(&ada).header("if-none-match", "\"v1.0\"").expect(304).await;

    let change = |patch: Value| app.patch(&one, patch).as_(&ada);
    let answer = change(json!({"title": "b", "body": null})).expect(200).await;
    let changed = answer.json();
    assert_eq!((answer.header("etag"), changed.text("title"), changed.text("body")), ("\"v2.0\"", "b", ""));
    assert_eq!(changed["created_at"], draft["created_at"]);
    for patch in [json!({}), json!({"title": "b"})] {
        let same = change(patch).expect(200).await;
        assert_eq!((same.header("etag"), same.find("event-id")), ("\"v2.0\"", None));
    }

    let go = |step: &str| app.post(&format!("{one}/{step}"), None).as_(&ada);
    go("unpublish").refused(409).await;
    let shown = go("publish").key("p").expect(200).await;
    let published = shown.json();
    assert_eq!((shown.header("etag"), published.text("status")), ("\"v3.0\"", "published"));
    assert!(published["published_at"].is_string());
    assert_eq!(go("publish").key("p").expect(200).await.json(), published);
    go("publish").refused(409).await;
    let hidden = go("unpublish").expect(200).await.json();
    assert_eq!((hidden.text("status"), hidden.int("version")), ("unpublished", 4));
    go("unpublish").refused(409).await;
    let gone = app.delete(&one).as_(&ada).expect(204).await;
    for request in [app.get(&one), app.delete(&one), app.post(&format!("{one}/publish"), None)] {
        request.as_(&ada).refused(404).await;
    }

    app.drain().await;
    let last = app.read(&ada, &format!("/v1/events/{}", gone.header("event-id"))).await;
    assert_eq!(last.text("subject"), format!("post/{}", draft.text("id")));
    let events = app.events(&ada).await;
    let told: Vec<_> = events
        .iter()
        .filter(|event| event["subject"] == last["subject"])
        .map(|event| (event.text("type"), event.int("aggregateversion")))
        .collect();
    let types = ["post.created", "post.updated", "post.published", "post.unpublished", "post.deleted"];
    assert_eq!(told, types.into_iter().zip(1..).collect::<Vec<_>>());
    app.finish().await;
}

async fn what_does_not_fit_is_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&root, json!({"title": "Operations", "key": "OPS"})).await;
    let largest = json!({"title": "é".repeat(200), "body": "x".repeat(50_000), "project_id": project["id"]});
    let one = path("posts", &post(&app, &root, largest, false).await);
    for (fields, pointer) in [
        (json!({"title": ""}), "/title"),
        (json!({"title": " "}), "/title"),
        (json!({"title": "x".repeat(201)}), "/title"),
        (json!({"title": "a\nb"}), "/title"),
        (json!({"title": 5}), "/title"),
        (json!({"title": null}), "/title"),
        (json!({"title": "a", "body": "x".repeat(50_001)}), "/body"),
        (json!({"title": "a", "body": "\u{0}"}), "/body"),
        (json!({"title": "a", "id": NOBODY}), "/id"),
        (json!({"title": "a", "author_id": ada.id}), "/author_id"),
        (json!({"title": "a", "status": "published"}), "/status"),
        (json!({"title": "a", "published_at": null}), "/published_at"),
        (json!({"title": "a", "comment_count": 7}), "/comment_count"),
        (json!({"title": "a", "version": 7}), "/version"),
    ] {
        for request in [app.post("/v1/posts", fields.clone()), app.patch(&one, fields.clone())] {
            let problem = request.as_(&root).refused(422).await;
            assert_eq!(problem.texts("errors", "pointer"), [pointer], "{fields}");
        }
    }
    for (user, fields, pointer) in [
        (&root, json!({}), "/title"),
        (&root, json!({"title": "a", "project_id": "OPS"}), "/project_id"),
        (&root, json!({"title": "a", "project_id": NOBODY}), "/project_id"),
        // What one may not know of is not there.
        (&ada, json!({"title": "a", "project_id": project["id"]}), "/project_id"),
    ] {
        let problem = app.post("/v1/posts", fields).as_(user).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    let moved = app.patch(&one, json!({"project_id": null})).as_(&root).refused(422).await;
    assert_eq!(moved.texts("errors", "pointer"), ["/project_id"]);
    for (query, pointer) in [
        ("colour=red", "?colour"),
        ("limit=0", "?limit"),
        ("sort=title", "?sort"),
        ("status=new", "?status"),
        ("project_id=OPS", "?project_id"),
        ("project_id=", "?project_id"),
    ] {
        let problem = app.get(&format!("/v1/posts?{query}")).as_(&root).refused(400).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    assert_eq!(app.list(&root, "/v1/posts").await.len(), 1);
    app.finish().await;
}

async fn of_two_changes_to_one_version_one_wins(backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = app.user("Root").await;
    let one = path("posts", &post(&app, &root, json!({"title": "a"}), false).await);
    let change = |title: &str| app.patch(&one, json!({"title": title})).as_(&root);
    let both = ["b", "c"].map(|title| change(title).header("if-match", "\"v1.0\"").send());
    let mut statuses: Vec<u16> = join_all(both).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    app.delete(&one).as_(&root).header("if-match", "\"v1.0\"").refused(412).await;
    // Comments change what is shown, but not the version.
    change("d").header("if-match", "\"v2.7\"").expect(200).await;

    let publish = || app.post(&format!("{one}/publish"), None).as_(&root).send();
    let many = join_all((0..8).map(|_| publish())).await;
    let mut statuses: Vec<u16> = many.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
    app.finish().await;
}

/// The people of a project, by what they are there.
struct People {
    root: User,
    owner: User,
    maintainer: User,
    /// The author.
    bob: User,
    member: User,
    viewer: User,
    /// Was a member.
    former: User,
    stranger: User,
    project: Value,
}

impl People {
    async fn meet(app: &TestApp) -> Self {
        let people = Self {
            root: app.user("Root").await,
            owner: app.user("Ada").await,
            maintainer: app.user("Max").await,
            bob: app.user("Bob").await,
            member: app.user("Mia").await,
            viewer: app.user("Vic").await,
            former: app.user("Xena").await,
            stranger: app.user("Eve").await,
            project: Value::Null,
        };
        let project = app.project(&people.owner, json!({"title": "Operations", "key": "OPS"})).await;
        for (user, role) in [
            (&people.maintainer, "maintainer"),
            (&people.bob, "member"),
            (&people.member, "member"),
            (&people.viewer, "member"),
            (&people.former, "member"),
        ] {
            app.member(&people.owner, &project, user, role).await;
        }
        Self { project, ..people }
    }

    /// Two of them may do less from now on.
    async fn change(&self, app: &TestApp) {
        let member = |user: &User| format!("{}/members/{}", path("projects", &self.project), user.id);
        let less = json!({"role": "viewer"});
        app.patch(&member(&self.viewer), less).as_(&self.owner).expect(200).await;
        app.delete(&member(&self.former)).as_(&self.owner).expect(204).await;
    }

    fn update(&self, title: &str) -> Value {
        json!({"title": title, "project_id": self.project["id"]})
    }
}

async fn everyone_does_what_they_may(backend: Backend) {
    let app = TestApp::start(backend).await;
    let people = People::meet(&app).await;
    let mut own = Vec::new();
    for user in [&people.viewer, &people.former] {
        let draft = post(&app, user, people.update("a"), false).await;
        own.push((draft, post(&app, user, people.update("b"), true).await));
    }
    people.change(&app).await;
    let (all, none) = ([200, 200, 200, 204], [404; 4]);
    for (user, draft, published) in [
        (&people.root, all, [200, 200, 409, 204]),
        (&people.owner, all, [200, 200, 409, 204]),
        (&people.maintainer, all, [200, 200, 409, 204]),
        (&people.bob, all, [200, 200, 409, 204]),
        (&people.member, none, [200, 403, 403, 403]),
        (&people.viewer, none, [200, 403, 403, 403]),
        (&people.former, none, none),
        (&people.stranger, none, none),
    ] {
        for (is_published, statuses) in [(false, draft), (true, published)] {
            let bobs = post(&app, &people.bob, people.update("bob"), is_published).await;
            check(&app, user, &path("posts", &bobs), statuses).await;
        }
    }
    // What one wrote is one's own no longer than one may write there.
    let limits = [(&people.viewer, [200, 403, 403, 403]), (&people.former, none)];
    for ((user, statuses), (draft, published)) in limits.into_iter().zip(own) {
        check(&app, user, &path("posts", &draft), statuses).await;
        check(&app, user, &path("posts", &published), statuses).await;
    }
    app.post("/v1/posts", people.update("a")).as_(&people.viewer).refused(403).await;
    app.post("/v1/posts", people.update("a")).as_(&people.stranger).refused(422).await;
    app.post("/v1/posts", people.update("a")).refused(401).await;
    app.get("/v1/posts").refused(401).await;
    app.finish().await;
}

/// Asks to read, change, publish and delete a post; nobody unknown may any of it.
async fn check(app: &TestApp, user: &User, one: &str, statuses: [u16; 4]) {
    let requests = || {
        [
            app.get(one),
            app.patch(one, json!({"title": "changed"})),
            app.post(&format!("{one}/publish"), None),
            app.delete(one),
        ]
    };
    for request in requests() {
        request.refused(401).await;
    }
    for (request, status) in requests().into_iter().zip(statuses) {
        let answer = request.as_(user).send().await;
        assert_eq!(answer.status, status, "{} at {one}: {}", user.name, answer.text());
    }
}

async fn a_draft_is_told_to_few(backend: Backend) {
    let app = TestApp::start(backend).await;
    let people = People::meet(&app).await;
    let draft = post(&app, &people.bob, people.update("a"), false).await;
    let one = path("posts", &draft);
    for step in ["publish", "unpublish"] {
        let comment = json!({"body": "b"});
        app.post(&format!("{one}/comments"), comment).as_(&people.bob).expect(201).await;
        app.post(&format!("{one}/{step}"), None).as_(&people.bob).expect(200).await;
    }
    app.delete(&one).as_(&people.bob).expect(204).await;
    app.drain().await;
    let published = ["post.published", "comment.created", "post.unpublished"];
    let whole = [
        "post.created",
        "comment.created",
        "post.published",
        "comment.created",
        "post.unpublished",
        "comment.deleted",
        "comment.deleted",
        "post.deleted",
    ];
    let subject = format!("post/{}", draft.text("id"));
    for (user, expected) in [
        (&people.root, &whole[..]),
        (&people.bob, &whole),
        (&people.member, &published),
        (&people.stranger, &[]),
    ] {
        let events = app.events(user).await;
        let of_post = events.iter().filter(|event| event.text("subject") == subject);
        let types: Vec<&str> = of_post.map(|event| event.text("type")).collect();
        assert_eq!(types, expected, "{}", user.name);
    }
    app.finish().await;
}

async fn news_are_the_admins_to_write(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada) = (app.user("Root").await, app.user("Ada").await);
    app.post("/v1/posts", json!({"title": "a"})).as_(&ada).refused(403).await;
    let news = post(&app, &root, json!({"title": "a", "project_id": null}), false).await;
    assert_eq!(news["project_id"], Value::Null);
    let one = path("posts", &news);
    app.get(&one).as_(&ada).refused(404).await;
    app.post(&format!("{one}/publish"), None).as_(&root).expect(200).await;
    check(&app, &ada, &one, [200, 403, 403, 403]).await;
    app.post(&format!("{one}/unpublish"), None).as_(&ada).refused(403).await;
    app.post(&format!("{one}/unpublish"), None).as_(&root).expect(200).await;
    check(&app, &ada, &one, [404; 4]).await;
    app.finish().await;
}

fn titles(posts: &[Value]) -> String {
    posts.iter().map(|post| post.text("title")).collect()
}

async fn lists_hold_what_one_may_see(backend: Backend) {
    let app = TestApp::start(backend).await;
    let people = People::meet(&app).await;
    let open = json!({"title": "Open", "key": "OPEN", "visibility": "internal"});
    let open = app.project(&people.owner, open).await;
    post(&app, &people.root, json!({"title": "a"}), true).await;
    post(&app, &people.root, json!({"title": "b"}), false).await;
    post(&app, &people.bob, people.update("c"), true).await;
    post(&app, &people.bob, people.update("d"), false).await;
    post(&app, &people.former, people.update("e"), false).await;
    let fields = |title: &str| json!({"title": title, "project_id": open["id"]});
    post(&app, &people.owner, fields("f"), true).await;
    post(&app, &people.owner, fields("g"), false).await;
    people.change(&app).await;
    let (private, open) = (people.project.text("id"), open.text("id"));
    for (user, query, expected) in [
        (&people.root, String::new(), "gfedcba"),
        (&people.owner, String::new(), "gfedca"),
        (&people.maintainer, String::new(), "fedca"),
        (&people.bob, String::new(), "fdca"),
        (&people.viewer, String::new(), "fca"),
        (&people.former, String::new(), "fa"),
        (&people.stranger, String::new(), "fa"),
        (&people.root, "project_id=none".to_owned(), "ba"),
        (&people.stranger, "project_id=none".to_owned(), "a"),
        (&people.bob, format!("project_id={private}"), "dc"),
        (&people.bob, format!("project_id={private},none"), "dca"),
        (&people.bob, format!("project_id={private},{open}"), "fdc"),
        (&people.stranger, format!("project_id={private}"), ""),
        (&people.bob, format!("project_id={NOBODY}"), ""),
        (&people.bob, "status=draft".to_owned(), "d"),
        (&people.root, "status=draft,unpublished".to_owned(), "gedb"),
        (&people.maintainer, format!("status=draft&project_id={private}"), "ed"),
    ] {
        let found = app.list(user, &format!("/v1/posts?{query}")).await;
        assert_eq!(titles(&found), expected, "{query} by {}", user.name);
    }

    let list = "/v1/posts?limit=2";
    let mut page = app.read(&people.bob, list).await;
    assert_eq!((titles(page.list("data")), &page["page"]["prev_cursor"]), ("fd".to_owned(), &Value::Null));
    let next = format!("{list}&cursor={}", page["page"].text("next_cursor"));
    for (user, query) in [(&people.root, next.clone()), (&people.bob, format!("{next}&status=draft"))] {
        app.get(&query).as_(user).refused(400).await;
    }
    page = app.read(&people.bob, &next).await;
    assert_eq!((titles(page.list("data")), &page["page"]["next_cursor"]), ("ca".to_owned(), &Value::Null));
    let back = format!("{list}&cursor={}", page["page"].text("prev_cursor"));
    assert_eq!(titles(&app.list(&people.bob, &back).await), "fd");
    app.finish().await;
}

async fn a_project_that_is_put_away_takes_none(backend: Backend) {
    let app = TestApp::start(backend).await;
    let people = People::meet(&app).await;
    let draft = path("posts", &post(&app, &people.bob, people.update("a"), false).await);
    let away = json!({"archived": true});
    app.patch(&path("projects", &people.project), away).as_(&people.owner).expect(200).await;
    app.post("/v1/posts", people.update("b")).as_(&people.bob).refused(409).await;
    app.patch(&draft, json!({"title": "c"})).as_(&people.bob).refused(409).await;
    app.post(&format!("{draft}/publish"), None).as_(&people.bob).refused(409).await;
    app.get(&draft).as_(&people.bob).expect(200).await;
    app.delete(&draft).as_(&people.bob).expect(204).await;
    app.finish().await;
}

async fn a_deleted_project_takes_its_posts(backend: Backend) {
    let app = TestApp::start(backend).await;
    let people = People::meet(&app).await;
    let news = path("posts", &post(&app, &people.root, json!({"title": "news"}), true).await);
    let task = app.task(&people.bob, people.update("task")).await;
    let mut roots = vec![path("tasks", &task)];
    for published in [true, false] {
        roots.push(path("posts", &post(&app, &people.bob, people.update("post"), published).await));
    }
    for root in roots.iter().chain([&news]) {
        for _ in 0..3 {
            let path = format!("{root}/comments");
            let user = if *root == news { &people.stranger } else { &people.bob };
            app.post(&path, json!({"body": "a"})).as_(user).expect(201).await;
        }
    }
    app.delete(&path("projects", &people.project)).as_(&people.owner).expect(204).await;
    for root in &roots {
        app.get(root).as_(&people.root).refused(404).await;
    }
    assert_eq!(app.read(&people.stranger, &news).await.int("comment_count"), 3);
    assert_eq!(app.number("SELECT count(*) FROM comments").await, 3);
    assert_eq!(app.number("SELECT count(*) FROM posts").await, 1);

    app.drain().await;
    let events = app.events(&people.root).await;
    for root in &roots {
        let subject = root.trim_start_matches("/v1/").replacen("s/", "/", 1);
        let of_root = events.iter().filter(|event| event.text("subject") == subject);
        let types: Vec<&str> = of_root.map(|event| event.text("type")).collect();
        let gone = types.split_at(types.len().saturating_sub(4)).1;
        assert_eq!(gone[..3], ["comment.deleted"; 3], "{subject}");
        assert!(gone[3].ends_with(".deleted") && gone[3] != "comment.deleted", "{types:?}");
    }
    assert_eq!(events.last().map(|event| event.text("type")), Some("project.deleted"));
    app.finish().await;
}
