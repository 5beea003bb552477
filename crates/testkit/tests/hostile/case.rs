//! A line of the table: a request to the byte, and what it must be answered.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use taskpost_testkit::Raw;

/// Looks at an answer; says what is wrong with it.
pub(crate) type Check = Box<dyn Fn(&Raw) -> Result<(), String>>;

/// After how long a refusal, which takes milliseconds, was stuck; unless a case says otherwise.
const SOON: Duration = Duration::from_secs(10);

/// A line of the table.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Without the query; empty when the request is given to the byte.
    pub(crate) path: String,
    pub(crate) expected: Vec<u16>,
    /// The address of this machine that it is sent from.
    pub(crate) from: IpAddr,
    /// The pointer that one of the errors must have.
    pub(crate) pointer: Option<String>,
    /// Whatever the answer is, nothing may have changed.
    pub(crate) unchanged: bool,
    pub(crate) within: Duration,
    pub(crate) checks: Vec<Check>,
    request: Request,
}

enum Request {
    Bytes(Vec<u8>),
    Parts { first: String, fields: Vec<u8>, body: Option<Vec<u8>>, chunked: bool },
}

impl Case {
    /// A request for `target`, a path with or without a query. 400 is expected until another status is.
    pub(crate) fn new(method: &str, target: &str, name: impl Into<String>) -> Self {
        let first = format!("{method} {target} HTTP/1.1\r\nhost: taskpost.test\r\n");
        let path = target.split('?').next().unwrap_or_default();
        Self::of(name, path, Request::Parts { first, fields: Vec::new(), body: None, chunked: false })
    }

    /// A request to the byte.
    pub(crate) fn raw(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(name, "", Request::Bytes(bytes.into()))
    }

    fn of(name: impl Into<String>, path: &str, request: Request) -> Self {
        Self {
            name: name.into(),
            path: path.to_owned(),
            expected: vec![400],
            from: Ipv4Addr::LOCALHOST.into(),
            pointer: None,
            unchanged: false,
            within: SOON,
            checks: Vec::new(),
            request,
        }
    }

    /// With one more header line.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if let Request::Parts { fields, .. } = &mut self.request {
            for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
                fields.extend_from_slice(part);
            }
        }
        self
    }

    /// With this access token.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// With this body, which says that it is JSON.
    pub(crate) fn json(self, body: impl AsRef<[u8]>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// With this body, which says nothing of its type.
    pub(crate) fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        if let Request::Parts { body, .. } = &mut self.request {
            *body = Some(bytes.as_ref().to_vec());
        }
        self
    }

    /// Sends the body in chunks, without its length.
    pub(crate) fn chunked(mut self) -> Self {
        if let Request::Parts { chunked, .. } = &mut self.request {
            *chunked = true;
        }
        self
    }

    /// One of these statuses.
    pub(crate) fn expect(self, statuses: &[u16]) -> Self {
        Self { expected: statuses.to_vec(), ..self }
    }

    /// The problem names this path instead of its own.
    pub(crate) fn instance(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Sent from 127.0.0.`host`.
    pub(crate) fn from(self, host: u8) -> Self {
        Self { from: Ipv4Addr::new(127, 0, 0, host).into(), ..self }
    }

    /// 422, with an error at this pointer.
    pub(crate) fn invalid(self, pointer: &str) -> Self {
        self.expect(&[422]).pointer(pointer)
    }

    /// With an error at this pointer.
    pub(crate) fn pointer(self, pointer: &str) -> Self {
        Self { pointer: Some(pointer.to_owned()), ..self }
    }

    /// Nothing may have changed, whatever the answer is.
    pub(crate) fn unchanged(self) -> Self {
        Self { unchanged: true, ..self }
    }

    /// A refusal may take so long.
    pub(crate) fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// This must hold too.
    pub(crate) fn check(mut self, check: impl Fn(&Raw) -> Result<(), String> + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// The request as it is sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (first, fields, body, chunked) = match &self.request {
            Request::Bytes(bytes) => return bytes.clone(),
            Request::Parts { first, fields, body, chunked } => (first, fields, body.as_deref(), *chunked),
        };
        let length = match body {
            Some(_) if chunked => "transfer-encoding: chunked\r\n".to_owned(),
            Some(body) => format!("content-length: {}\r\n", body.len()),
            None => String::new(),
        };
        let body = body.unwrap_or_default();
        let body = if chunked { in_chunks(body) } else { body.to_vec() };
        [first.as_bytes(), fields, length.as_bytes(), b"\r\n", &body].concat()
    }
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    for part in body.chunks(100_000) {
        coded.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        coded.extend_from_slice(part);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

/// A value as it stands in a query.
pub(crate) fn encoded(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}
