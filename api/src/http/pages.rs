//! Lists as answers: the items, the cursors, and the same as links (RFC 8288).

use axum::{
    http::{StatusCode, Uri, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use taskpost_common::problem::{Code, FieldError};
use taskpost_tracker::{Page, PageRequest, Paging};
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::{ApiError, Result},
    query::{Limit, Number, Parsed},
    reply::Reply,
};

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Listed<T> {
    /// Its items.
    data: Vec<T>,
    /// Where it stands.
    page: Place,
    /// How many items there are; with `page` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
    /// How many pages there are; with `page` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_pages: Option<i64>,
}

impl<T> Listed<T> {
    const fn new(data: Vec<T>, page: Place) -> Self {
        Self { data, page, total: None, total_pages: None }
    }
}

/// Where a page stands in its list.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = PagePlace)]
pub(crate) struct Place {
    /// Give it as `cursor` for the next page; null on the last.
    next_cursor: Option<String>,
    /// Give it as `cursor` for the page before; null on the first.
    prev_cursor: Option<String>,
}

/// Keys of a list that has no filter.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageKeys {
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    pub(crate) limit: Limit,
    /// From an earlier page of the same list.
    pub(crate) cursor: Option<String>,
}

/// The page that a query asks for.
pub(crate) fn request(limit: &Limit, cursor: Option<String>) -> PageRequest {
    PageRequest { limit: limit.get(), cursor }
}

/// The number of a page, from 1.
pub(crate) type PageNumber = Parsed<Number<1, { u32::MAX }>>;

/// The keys of a list that can be walked by cursor and by number. Each such query has these four.
pub(crate) struct Numbering {
    pub(crate) limit: Option<Limit>,
    pub(crate) cursor: Option<String>,
    pub(crate) page: Option<PageNumber>,
    pub(crate) per_page: Option<Limit>,
}

impl Numbering {
    /// The page that they ask for. A numbered one cannot also have a cursor.
    pub(crate) fn paging(self) -> Result<Paging> {
        if self.page.is_none() && self.per_page.is_none() {
            return Ok(Paging::Cursor(request(&self.limit.unwrap_or_default(), self.cursor)));
        }
        for (key, given) in [("cursor", self.cursor.is_some()), ("limit", self.limit.is_some())] {
            if given {
                let detail = "does not go with page and per_page";
                let error = FieldError::new(format!("?{key}"), "invalid_value", detail);
                return Err(ApiError::at(Code::BadRequest, error));
            }
        }
        let page = self.page.map_or(1, |Parsed(Number(page))| page);
        Ok(Paging::Numbered { page, per_page: self.per_page.unwrap_or_default().get() })
    }
}

/// A page by cursor or by number, as it was asked for.
pub(crate) fn as_asked<T: Serialize>(uri: &Uri, paging: &Paging, page: Page<T>) -> Result<Response> {
    match paging {
        Paging::Cursor(_) => by_cursor(uri, page),
        Paging::Numbered { page: number, per_page } => by_number(uri, *number, *per_page, page),
    }
}

/// A page by cursor.
pub(crate) fn by_cursor<T: Serialize>(uri: &Uri, page: Page<T>) -> Result<Response> {
    let place = Place { next_cursor: page.next_cursor, prev_cursor: page.prev_cursor };
    let links = [("next", place.next_cursor.clone()), ("prev", place.prev_cursor.clone())];
    answer(&Listed::new(page.data, place), &links_text(uri, "cursor", links))
}

/// A page by number, from 1.
fn by_number<T: Serialize>(uri: &Uri, number: u32, per_page: usize, page: Page<T>) -> Result<Response> {
    let total = page.total.unwrap_or_default();
    let per_page = i64::try_from(per_page).unwrap_or(i64::MAX).max(1);
    let pages = total / per_page + i64::from(total % per_page > 0);
    let next = (i64::from(number) < pages).then(|| (number + 1).to_string());
    let previous = (number > 1).then(|| (number - 1).to_string());
    answer(
        &Listed { total: Some(total), total_pages: Some(pages), ..Listed::new(page.data, Place::default()) },
        &links_text(uri, "page", [("next", next), ("prev", previous)]),
    )
}

/// A list that is one page.
pub(crate) fn whole<T: Serialize>(data: Vec<T>) -> Result<Response> {
    answer(&Listed::new(data, Place::default()), "")
}

/// Items of a log, which has no last page: `next` is where to go on.
pub(crate) fn by_position<T: Serialize>(uri: &Uri, data: Vec<T>, next: String) -> Result<Response> {
    let links = links_text(uri, "after", [("next", Some(next.clone())), ("prev", None)]);
    answer(&Listed::new(data, Place { next_cursor: Some(next), prev_cursor: None }), &links)
}

fn answer<T: Serialize>(listed: &Listed<T>, links: &str) -> Result<Response> {
    let reply = Reply::json(StatusCode::OK, listed)?;
    Ok(if links.is_empty() { reply } else { reply.with(header::LINK, links) }.done())
}

fn links_text(uri: &Uri, key: &str, links: [(&str, Option<String>); 2]) -> String {
    let links = links.into_iter().filter_map(|(rel, value)| Some((rel, value?)));
    let links = links.map(|(rel, value)| format!("<{}>; rel=\"{rel}\"", with_key(uri, key, &value)));
    links.collect::<Vec<_>>().join(", ")
}

/// The same address with another value of `key`, which needs no escapes.
fn with_key(uri: &Uri, key: &str, value: &str) -> String {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut others: Vec<&str> = pairs.filter(|pair| pair.split('=').next() != Some(key)).collect();
    let own = format!("{key}={value}");
    others.push(&own);
    format!("{}?{}", uri.path(), others.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(response: &Response) -> &str {
        response.headers().get(header::LINK).map_or("", |link| link.to_str().unwrap())
    }

    #[test]
    fn links_keep_the_query_and_change_the_place() {
        let uri: Uri = "/v1/tasks?state=open&cursor=old&limit=2".parse().unwrap();
        let page = |next: Option<&str>, prev: Option<&str>| Page {
            data: vec![1],
            next_cursor: next.map(str::to_owned),
            prev_cursor: prev.map(str::to_owned),
            total: None,
        };
        let response = by_cursor(&uri, page(Some("n"), Some("p"))).unwrap();
        assert_eq!(
            link(&response),
            "</v1/tasks?state=open&limit=2&cursor=n>; rel=\"next\", </v1/tasks?state=open&limit=2&cursor=p>; rel=\"prev\""
        );
        assert_eq!(link(&by_cursor(&uri, page(None, None)).unwrap()), "");
    }

    #[test]
    fn numbered_pages_end_at_the_total() {
        let uri: Uri = "/notifications?page=2&per_page=2".parse().unwrap();
        let page = || Page { data: vec![1], next_cursor: None, prev_cursor: None, total: Some(5) };
        let middle = by_number(&uri, 2, 2, page()).unwrap();
        assert_eq!(
            link(&middle),
            "</notifications?per_page=2&page=3>; rel=\"next\", </notifications?per_page=2&page=1>; rel=\"prev\""
        );
        let last = by_number(&uri, 3, 2, page()).unwrap();
        assert_eq!(link(&last), "</notifications?per_page=2&page=2>; rel=\"prev\"");
    }
}
