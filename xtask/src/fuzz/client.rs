//! A few requests of our own, each over a connection of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How long the product may take for one of them.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks one product.
pub struct Client {
    /// `host:port`.
    host: String,
}

/// An answer.
#[derive(PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The whole of its body.
    pub body: String,
}

impl Client {
    /// Asks the product at this address.
    pub fn new(base: &str) -> Result<Self> {
        let host = base.strip_prefix("http://").context("the product has no http address")?;
        Ok(Self { host: host.to_owned() })
    }

    /// Asks for what is there.
    pub fn get(&self, path: &str, token: Option<&str>) -> Result<Answer> {
        self.ask(&format!("GET {path}"), token, "")
    }

    /// The access token of an account.
    pub fn log_in(&self, email: &str, password: &str) -> Result<String> {
        let credentials = serde_json::json!({"email": email, "password": password}).to_string();
        let answer = self.ask("POST /v1/auth/login", None, &credentials)?;
        let session: Value = answer.json()?;
        Ok(session["access_token"].as_str().context("the session has no token")?.to_owned())
    }

    fn ask(&self, what: &str, token: Option<&str>, body: &str) -> Result<Answer> {
        let mut stream = TcpStream::connect(&self.host).context("the product does not listen")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let request = format!(
            "{what} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{bearer}{kind}Content-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        stream.write_all(request.as_bytes()).with_context(|| format!("{what}: not sent"))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(|| format!("{what}: no answer"))?;
        read(&String::from_utf8_lossy(&answer)).with_context(|| format!("{what}: no good answer"))
    }
}

impl Answer {
    /// What a good answer says.
    pub fn json(&self) -> Result<Value> {
        if self.status != 200 {
            bail!("the product answers {}: {}", self.status, self.body);
        }
        serde_json::from_str(&self.body).context("the answer is no JSON")
    }
}

/// An answer whose connection ends with it.
fn read(answer: &str) -> Result<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n").context("it has no end")?;
    let (first, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let length = fields.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    ensure!(length.is_none_or(|length: usize| length == body.len()), "it is not whole");
    Ok(Answer { status: status.context("it has no status")?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = read("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\": 1}").unwrap();
        assert_eq!(answer.json().unwrap()["a"], 1);
        let refused = read("HTTP/1.1 404 Not Found\r\n\r\nno such thing").unwrap();
        assert_eq!(refused, Answer { status: 404, body: "no such thing".to_owned() });
        assert!(refused.json().unwrap_err().to_string().ends_with("404: no such thing"));
    }

    #[test]
    fn half_an_answer_is_none() {
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{";
        for half in ["", "HTTP/1.1 200 OK\r\n", short, "what\r\n\r\n"] {
            assert!(read(half).is_err(), "{half}");
        }
    }
}
