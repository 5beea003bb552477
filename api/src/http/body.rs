//! A request's body: how large, how slow and in what form it may come.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, header},
};
use bytes::BytesMut;
use taskpost_common::problem::Code;

use super::{
    problem::{ApiError, Result},
    route::Input,
};

/// How long a body may take to arrive.
const TIME: Duration = Duration::from_secs(10);

/// Reads the body, whether the route wants it or not, so that the connection can be used again.
pub(crate) async fn read(headers: &HeaderMap, body: Body, input: Input) -> Result<Bytes> {
    if input.is_json() {
        check_form(headers, body.is_end_stream())?;
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    check_plain(headers)?;
    let limit = input.max_body();
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large(limit));
    }
    let late = |_| ApiError::new(Code::RequestTimeout, "the body did not arrive within 10 seconds");
    tokio::time::timeout(TIME, collect(body, limit)).await.map_err(late)?
}

/// A body of one frame, which is almost every one, is not copied.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body ended before it was whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// JSON in UTF-8. An absent body may leave its type out: that it is missing is said by whoever needs it.
fn check_form(headers: &HeaderMap, empty: bool) -> Result<()> {
    let good = match headers.get(header::CONTENT_TYPE) {
        None => empty,
        Some(value) => value.to_str().is_ok_and(is_json),
    };
    if good { Ok(()) } else { Err(unsupported("the body must be application/json in UTF-8")) }
}

/// Nothing is unpacked, so that no small body becomes a large one.
fn check_plain(headers: &HeaderMap) -> Result<()> {
    let plain = |value: &axum::http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    let good = headers.get_all(header::CONTENT_ENCODING).iter().all(plain);
    if good { Ok(()) } else { Err(unsupported("the body must not be compressed")) }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let structured =
        essence.strip_prefix("application/").is_some_and(|name| name.len() > 5 && name.ends_with("+json"));
    let utf8 = |charset: &str| charset.trim_matches('"').eq_ignore_ascii_case("utf-8");
    let fits = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => utf8(value),
        _ => true,
    };
    (essence == "application/json" || structured) && parts.all(fits)
}

fn unsupported(detail: &'static str) -> ApiError {
    ApiError::new(Code::UnsupportedMediaType, detail)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(Code::TooLarge, format!("the body may have at most {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[test]
    fn knows_json_by_its_type() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/merge-patch+json",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/+json",
            "application/json; charset=latin1",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes.iter().map(|size| Ok::<_, std::io::Error>(vec![b'x'; *size])).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn the_limit_is_exact_with_and_without_a_length() {
        let limit = Input::None.max_body();
        let headers = HeaderMap::new();
        for (body, fits) in [
            (Body::from(vec![b'x'; limit]), true),
            (Body::from(vec![b'x'; limit + 1]), false),
            (chunks(&[1, limit - 1]), true),
            (chunks(&[1, limit - 1, 1]), false),
        ] {
            let read = read(&headers, body, Input::None).await;
            match read {
                Ok(bytes) => assert!(fits && bytes.len() == limit),
                Err(error) => assert!(!fits && error.code() == Code::TooLarge),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_408() {
        let body = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        let error = read(&HeaderMap::new(), body, Input::None).await.unwrap_err();
        assert_eq!(error.code(), Code::RequestTimeout);
    }

    #[tokio::test]
    async fn compressed_and_untyped_bodies_are_415() {
        let mut headers = HeaderMap::new();
        let body = || Body::from("{}");
        assert_eq!(read(&headers, body(), Input::Json).await.unwrap_err().code(), Code::UnsupportedMediaType);
        headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        assert!(read(&headers, body(), Input::Json).await.is_ok());
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(read(&headers, body(), Input::Json).await.unwrap_err().code(), Code::UnsupportedMediaType);
    }
}
