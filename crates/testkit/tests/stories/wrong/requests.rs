//! Addresses, queries, headers and cursors that are wrong in one way each.

use taskpost_testkit::{Fields as _, TestApp, User};

use super::{
    ABSENT, Case,
    document::{Operation, Shape},
    fixture::Fixture,
};

/// Keys whose values are looked at by nobody who would refuse them.
const LENIENT: [&str; 1] = ["accepted"];

/// Ids and names of nothing, each in place of one that names something.
pub(super) fn addresses(fixture: &Fixture<'_>, operation: Operation<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, _) in operation.parameters("path") {
        let undashed = ABSENT.replace('-', "");
        let others = ["tasks", "projects", "comments"].map(|part| fixture.id(part));
        let own = fixture.address(operation.path, None);
        let others = others.into_iter().filter(|id| !own.contains(id));
        let nothing = [ABSENT, undashed.as_str(), "nonsense", "1", "%00", "%ff", "..%2f"];
        for id in nothing.into_iter().chain(others) {
            let request = fixture.good(operation, &fixture.address(operation.path, Some((name, id))));
            cases.push(Case::new(operation, &format!("{id} for {name}"), request, 404));
        }
    }
    cases
}

/// Keys that nobody knows or that come twice, and values that are not right.
pub(super) fn queries(fixture: &Fixture<'_>, operation: Operation<'_>) -> Vec<Case> {
    let address = fixture.address(operation.path, None);
    let asked = |query: &str, key: &str| {
        let request = fixture.request(operation, &format!("{address}?{query}"));
        Case::new(operation, &format!("?{query}"), request, 400).at(&format!("?{key}"))
    };
    let mut cases = vec![asked("colour=red", "colour")];
    let keys = operation.parameters("query");
    for (key, shape) in &keys {
        let sample = shape.sample();
        let sample = sample.as_str().map_or_else(|| sample.to_string(), str::to_owned);
        cases.push(asked(&format!("{key}={sample}&{key}={sample}"), key));
        if !LENIENT.contains(key) {
            cases.extend(bad_values(*shape).iter().map(|value| asked(&format!("{key}={value}"), key)));
        }
    }
    if operation.takes("query", "page") {
        cases.push(asked("page=1&cursor=a", "cursor"));
        cases.push(asked("per_page=5&limit=5", "limit"));
    }
    cases
}

/// Values that a key must not have, as they stand in a query.
fn bad_values(shape: Shape<'_>) -> Vec<String> {
    let mut values = vec![String::new(), "%00".to_owned()];
    if shape.is("string") {
        if shape.is_picky() {
            values.push("nonsense".to_owned());
        }
        return values;
    }
    values.extend(["nonsense", "1.5", "-1", "99999999999999999999", "true,false"].map(str::to_owned));
    values.extend(shape.bound("minimum").map(|least| format!("{:.0}", least - 1.0)));
    values.extend(shape.bound("maximum").map(|most| format!("{:.0}", most + 1.0)));
    values
}

/// Conditions that do not hold or say nothing, and names that are none.
pub(super) fn headers(fixture: &Fixture<'_>, operation: Operation<'_>) -> Vec<Case> {
    let address = fixture.address(operation.path, None);
    let key = "a".repeat(256);
    let mut cases = Vec::new();
    for (header, value, status) in [
        ("If-Match", "\"v999\"", 412),
        ("If-Match", "\"v999.0\"", 412),
        ("If-Match", "\"nonsense\"", 412),
        ("If-Match", "W/\"v1\"", 412),
        ("If-Match", "", 400),
        ("If-Match", "v1", 400),
        ("If-Match", "\"v1", 400),
        ("If-Match", "\"v1\", \"v2\"", 400),
        ("Idempotency-Key", "", 400),
        ("Idempotency-Key", "a b", 400),
        ("Idempotency-Key", key.as_str(), 400),
        ("After-Event", "nonsense", 400),
    ] {
        if operation.takes("header", header) {
            let request = fixture.good(operation, &address).header(header, value);
            cases.push(Case::new(operation, &format!("{header}: {value:.20}"), request, status));
        }
    }
    cases
}

/// Cursors that were given to nobody, to somebody else, or for another list.
pub(super) async fn cursors(app: &TestApp, fixture: &Fixture<'_>, operations: &[Operation<'_>]) -> Vec<Case> {
    let mut lists = Vec::new();
    for list in operations.iter().filter(|one| one.takes("query", "cursor")) {
        let address = format!("{}?{}limit=1", fixture.address(list.path, None), column(*list));
        let cursor = second_page(app, &fixture.root, &address).await;
        app.read(&fixture.root, &format!("{address}&cursor={cursor}")).await;
        lists.push((*list, address, cursor));
    }
    let others = lists.iter().cycle().skip(1);
    let cases = lists.iter().zip(others).flat_map(|((list, address, own), (_, _, other))| {
        let flipped = if own.starts_with('e') { "f" } else { "e" };
        let flipped = format!("{flipped}{}", &own[1..]);
        [
            ("with another letter", &fixture.root, flipped.as_str()),
            ("cut off", &fixture.root, &own[..own.len() - 4]),
            ("of somebody else", &fixture.ben, own.as_str()),
            ("of another list", &fixture.root, other.as_str()),
        ]
        .map(|(what, user, cursor)| {
            let request = app.get(&format!("{address}&cursor={cursor}")).as_(user);
            Case::new(*list, &format!("a cursor {what}"), request, 400).at("?cursor")
        })
    });
    cases.collect()
}

/// A board has a cursor for each of its columns.
fn column(list: Operation<'_>) -> &'static str {
    if list.path.ends_with("/board") { "status=todo&" } else { "" }
}

/// The cursor to what comes behind the first page.
async fn second_page(app: &TestApp, user: &User, address: &str) -> String {
    let page = app.read(user, address).await;
    let place = if page["columns"].is_array() { &page["columns"][0] } else { &page["page"] };
    place.text("next_cursor").to_owned()
}
