//! Wrong requests to every route, made from the document: each is refused as that lets one expect, and nothing
//! changes.

mod bodies;
mod document;
mod fixture;
mod others;
mod requests;

use std::cmp::Reverse;

use futures::{StreamExt as _, stream};
use taskpost_api::http::{Input, TABLE};
use taskpost_testkit::{Backend, Request, TestApp, both};

use document::{Document, Operation, Shape};
use fixture::Fixture;

both!(every_route_refuses_what_is_wrong);

/// An id that nothing has.
const ABSENT: &str = "0198f0c0-0000-7000-8000-000000000000";
/// How many are asked at once. Nothing changes by them, so their order is all the same.
const AT_ONCE: usize = 8;

/// A wrong request, and how it must be refused.
struct Case {
    name: String,
    request: Request,
    status: u16,
    documented: bool,
    pointer: Option<String>,
}

impl Case {
    fn new(operation: Operation<'_>, what: &str, request: Request, status: u16) -> Self {
        let name = format!("{}, {what}", operation.name());
        Self { name, request, status, documented: operation.answers(status), pointer: None }
    }

    /// With an error at this place.
    fn at(self, pointer: &str) -> Self {
        Self { pointer: Some(pointer.to_owned()), ..self }
    }

    /// Asks, and says what is wrong with the answer.
    async fn fault(self) -> Option<String> {
        let Self { name, request, status, documented, pointer } = self;
        let answer = request.send().await;
        if answer.status != status {
            return Some(format!("{name}: {} in place of {status}: {:.300}", answer.status, answer.text()));
        }
        let problem = answer.problem();
        let errors = problem["errors"].as_array().into_iter().flatten();
        let pointers: Vec<&str> = errors.filter_map(|error| error["pointer"].as_str()).collect();
        if pointer.as_deref().is_some_and(|pointer| !pointers.contains(&pointer)) {
            return Some(format!("{name}: {pointers:?} in place of {pointer:?}: {}", problem["detail"]));
        }
        (!documented).then(|| format!("{name}: the document does not know of {status}"))
    }
}

/// The document says of every route of the table what it reads, and closes what it describes.
fn must_be_whole(operations: &[Operation<'_>]) {
    for row in TABLE {
        let name = format!("{} {}", row.method, row.canonical());
        let operation = operations.iter().find(|operation| operation.name() == name);
        let operation = operation.unwrap_or_else(|| panic!("{name} is not in the document"));
        let body = operation.body();
        assert_eq!(body.is_some(), row.input.is_json(), "{name}: its body");
        assert!(body.is_none_or(Shape::is_closed), "{name}: the schema of its body");
        let has_keys = !operation.parameters("query").is_empty();
        assert_eq!(has_keys, row.input == Input::Query, "{name}: its query");
    }
    assert_eq!(operations.len(), TABLE.len());
}

/// When a good request is made, so that those after it are good too: what takes away comes last, the inner
/// before the outer.
fn turn(operation: &Operation<'_>) -> (u8, Reverse<usize>, String) {
    let name = operation.name();
    let stage = match name.as_str() {
        "POST /v1/auth/logout" => 5,
        "PUT /v1/me/password" => 4,
        "DELETE /v1/me/sessions" | "DELETE /v1/projects/{id}" => 3,
        _ if operation.method == "DELETE" => 2,
        _ if operation.method == "GET" => 0,
        _ => 1,
    };
    let depth = if stage == 2 { operation.path.len() } else { 0 };
    (stage, Reverse(depth), operation.path.to_owned())
}

/// Without what was wrong, each request would have been a good one.
async fn must_be_good(fixture: &Fixture<'_>, mut operations: Vec<Operation<'_>>) {
    operations.sort_by_key(turn);
    for operation in operations {
        let answer = fixture.good(operation, &fixture.address(operation.path, None)).send().await;
        let expected = match operation.name().as_str() {
            // Its token is in a mail, if anywhere.
            "POST /v1/auth/password/reset" => answer.status == 422,
            // It was put away just now.
            "POST /v1/admin/dead-letters/{id}/redrive" => answer.status == 409,
            _ => answer.status < 400,
        };
        assert!(expected, "{}, good: {} {}", operation.name(), answer.status, answer.text());
    }
}

async fn every_route_refuses_what_is_wrong(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.expect_dead_letters();
    let document = Document::read(&app).await;
    let operations = document.operations();
    must_be_whole(&operations);
    let fixture = Fixture::new(&app).await;
    let before = fixture.seen(&operations).await;
    let mut cases = requests::cursors(&app, &fixture, &operations).await;
    for operation in operations.iter().copied() {
        cases.extend(bodies::cases(&fixture, operation));
        cases.extend(requests::addresses(&fixture, operation));
        cases.extend(requests::queries(&fixture, operation));
        cases.extend(requests::headers(&fixture, operation));
    }
    let count = cases.len();
    assert!(count > 2_000, "only {count} cases");
    let asked = stream::iter(cases).map(Case::fault).buffer_unordered(AT_ONCE);
    let faults: Vec<String> = asked.filter_map(std::future::ready).collect().await;
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    for (before, after) in before.iter().zip(&fixture.seen(&operations).await) {
        assert_eq!(before, after, "it changed something");
    }
    must_be_good(&fixture, operations).await;
    app.finish().await;
}
