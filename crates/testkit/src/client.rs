//! A small HTTP client that says what went wrong.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::{
    Method, RequestBuilder,
    header::{CONTENT_TYPE, HeaderMap},
    redirect,
};
use serde_json::{Value, json};

use crate::Fields as _;

/// What every user's password is unless a test registers by itself.
const PASSWORD: &str = "correct horse battery";

/// Speaks to one instance. Follows no redirects and no proxies.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    http: reqwest::Client,
    users: AtomicUsize,
}

/// A registered and logged-in user.
#[derive(Clone, Debug)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its handle.
    pub handle: String,
    /// Its e-mail.
    pub email: String,
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// A good access token.
    pub token: String,
    /// A good refresh token.
    pub refresh_token: String,
    /// Its roles.
    pub roles: Vec<String>,
}

impl Client {
    /// For the instance at `address`.
    pub fn new(address: SocketAddr) -> Self {
        taskpost::wire::install_crypto();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()
            .expect("an HTTP client");
        Self { address, http, users: AtomicUsize::new(0) }
    }

    /// Where the instance listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The whole address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// A POST, with a JSON body or `None`.
    pub fn post(&self, path: &str, body: impl Into<Option<Value>>) -> Request {
        self.request(Method::POST, path).json(body)
    }

    /// A PUT, with a JSON body or `None`.
    pub fn put(&self, path: &str, body: impl Into<Option<Value>>) -> Request {
        self.request(Method::PUT, path).json(body)
    }

    /// A PATCH.
    pub fn patch(&self, path: &str, body: impl Into<Option<Value>>) -> Request {
        self.request(Method::PATCH, path).json(body)
    }

    /// A DELETE.
    pub fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    /// Any request; a method is its name or a [`Method`].
    pub fn request(&self, method: impl TryInto<Method, Error: std::fmt::Debug>, path: &str) -> Request {
        let method = method.try_into().expect("a method");
        let what = format!("{method} {path}");
        Request { what, builder: self.http.request(method, self.url(path)) }
    }

    /// Registers a user of this name with an e-mail of its own.
    pub async fn user(&self, name: &str) -> User {
        let number = self.users.fetch_add(1, Ordering::Relaxed) + 1;
        let word: String = name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let email = format!("{word}{number}@example.org");
        let account = json!({"email": email, "name": name, "password": PASSWORD});
        let session = self.post("/v1/auth/register", account).expect(201).await.json();
        User::of(&session, PASSWORD)
    }

    /// Logs a user in once more, in a session of its own.
    pub async fn login(&self, user: &User) -> User {
        let credentials = json!({"email": user.email, "password": user.password});
        let session = self.post("/v1/auth/login", credentials).expect(200).await.json();
        User::of(&session, &user.password)
    }
}

impl User {
    /// The user of an answer of registration, login or refresh.
    pub fn of(session: &Value, password: &str) -> Self {
        let user = &session["user"];
        let roles = user.list("roles").iter().filter_map(Value::as_str);
        Self {
            id: user.text("id").to_owned(),
            handle: user.text("handle").to_owned(),
            email: user.text("email").to_owned(),
            name: user.text("name").to_owned(),
            password: password.to_owned(),
            token: session.text("access_token").to_owned(),
            refresh_token: session.text("refresh_token").to_owned(),
            roles: roles.map(str::to_owned).collect(),
        }
    }
}

/// A request that is not sent yet.
#[derive(Debug)]
pub struct Request {
    what: String,
    builder: RequestBuilder,
}

impl Request {
    /// With the user's access token.
    #[must_use]
    pub fn as_(self, user: &User) -> Self {
        self.token(&user.token)
    }

    /// With this access token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        Self { builder: self.builder.bearer_auth(token), ..self }
    }

    /// With one more header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { builder: self.builder.header(name, value), ..self }
    }

    /// With an Idempotency-Key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With a JSON body, if there is one.
    #[must_use]
    pub fn json(self, body: impl Into<Option<Value>>) -> Self {
        match body.into() {
            Some(body) => self.body("application/json", body.to_string()),
            None => self,
        }
    }

    /// With any body.
    #[must_use]
    pub fn body(self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self { builder: self.builder.header(CONTENT_TYPE, content_type).body(body), ..self }
    }

    /// The answer, whatever its status.
    pub async fn send(self) -> Response {
        let what = self.what.clone();
        self.try_send().await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// The answer, or why there is none: for servers that are killed.
    pub async fn try_send(self) -> Result<Response, reqwest::Error> {
        let answer = self.builder.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await?.to_vec();
        Ok(Response { what: self.what, status, headers, body })
    }

    /// The answer, which must have this status.
    pub async fn expect(self, status: u16) -> Response {
        let answer = self.send().await;
        assert_eq!(answer.status, status, "{}: {}", answer.what, answer.text());
        answer
    }

    /// The problem of an answer that must have this status and be `application/problem+json`.
    pub async fn refused(self, status: u16) -> Value {
        self.expect(status).await.problem()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    what: String,
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} {}: {error}: {}", self.what, self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header that must be there, once.
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| {
            panic!("{} {}: no header {name} in {:?}", self.what, self.status, self.headers)
        })
    }

    /// A header that may be there.
    pub fn find(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.get_all(name).iter();
        let first = lines.next()?;
        assert!(lines.next().is_none(), "{}: {name} comes more than once", self.what);
        Some(first.to_str().expect("a header in ASCII"))
    }

    /// The body as a problem (RFC 9457), whose parts must fit the answer.
    pub fn problem(&self) -> Value {
        assert_eq!(
            self.find("content-type"),
            Some("application/problem+json"),
            "{}: {}",
            self.what,
            self.text()
        );
        let problem = self.json();
        assert_eq!(problem.int("status"), i64::from(self.status), "{}: {problem}", self.what);
        for part in ["type", "title", "detail", "instance", "trace_id"] {
            assert!(!problem.text(part).is_empty(), "{}: {problem}", self.what);
        }
        problem
    }
}
