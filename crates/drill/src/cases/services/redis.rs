//! What is done to the rate limiter's memory.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use url::Url;

use super::{
    away::is_felt,
    evidence::{Evidence, healed},
    shared,
};
use crate::{
    case::{Arena, Case},
    services::{Service, variable},
};

const FULL: Duration = Duration::from_secs(8);
/// How often it is emptied, and what is acknowledged in between.
const TIMES: usize = 5;
const BETWEEN: usize = 30;

/// Both.
pub fn cases() -> [Case; 2] {
    [
        shared("redis emptied".to_owned(), Box::new(|arena| Box::pin(empty(arena)))),
        shared("redis out of memory".to_owned(), Box::new(|arena| Box::pin(fill(arena)))),
    ]
}

/// Everything in it is gone, the limiter's script included.
async fn empty(arena: &Arena) -> Result<(), String> {
    let (mut redis, evidence) = (Redis::connect().await, Evidence::of(arena, Service::Redis));
    let mut keys = 0;
    for _ in 0..TIMES {
        keys +=
            redis.ask(&["DBSIZE"]).await.trim_start_matches(':').parse::<u64>().expect("a number of keys");
        for words in [["FLUSHALL", "SYNC"], ["SCRIPT", "FLUSH"]] {
            assert_eq!(redis.ask(&words).await, "+OK");
        }
        arena.load.wait_for_more(BETWEEN).await;
    }
    if keys > 0 {
        evidence.end().mark(arena, &format!("redis: emptied {TIMES} times, of {keys} keys in all"));
    }
    Ok(())
}

/// It has no room for another key.
async fn fill(arena: &Arena) -> Result<(), String> {
    const SETTINGS: [&str; 2] = ["maxmemory", "maxmemory-policy"];
    let (mut redis, mut evidence) = (Redis::connect().await, Evidence::of(arena, Service::Redis));
    let mut before = Vec::new();
    for name in SETTINGS {
        before.push(redis.setting(name).await);
    }
    let full = async {
        let mut redis = Redis::connect().await;
        for (name, value) in SETTINGS.into_iter().zip(["1mb", "noeviction"]) {
            assert_eq!(redis.ask(&["CONFIG", "SET", name, value]).await, "+OK");
        }
        evidence.watch_for(FULL).await;
        redis.ask(&["SET", "drill:full", "1"]).await
    };
    let normal = async {
        for (name, value) in SETTINGS.into_iter().zip(&before) {
            assert_eq!(redis.ask(&["CONFIG", "SET", name, value]).await, "+OK");
        }
    };
    let told = healed(full, normal).await;
    let noticed = evidence.end();
    if told.starts_with("-OOM") && is_felt(Service::Redis, &noticed) {
        noticed.mark(arena, "redis: out of memory");
    }
    Ok(())
}

/// A connection of our own, in its own protocol (RESP).
struct Redis(BufReader<TcpStream>);

impl Redis {
    async fn connect() -> Self {
        let url: Url = variable("TASKPOST_TEST_REDIS_URL").parse().expect("a URL");
        let addresses = url.socket_addrs(|| Some(6379)).expect("an address");
        let stream = TcpStream::connect(addresses.as_slice()).await.expect("Redis is there");
        let mut redis = Self(BufReader::new(stream));
        let words = ["AUTH", url.username(), url.password().unwrap_or_default()];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        if words.len() > 1 {
            assert_eq!(redis.ask(&words).await, "+OK");
        }
        redis
    }

    /// The first line of the answer.
    async fn ask(&mut self, words: &[&str]) -> String {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command = format!("{command}${}\r\n{word}\r\n", word.len());
        }
        self.0.write_all(command.as_bytes()).await.expect("Redis takes it");
        self.line().await
    }

    async fn setting(&mut self, name: &str) -> String {
        assert_eq!(self.ask(&["CONFIG", "GET", name]).await, "*2");
        self.bulk().await;
        self.bulk().await
    }

    async fn bulk(&mut self) -> String {
        let length = self.line().await.trim_start_matches('$').parse::<usize>().expect("a length");
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).await.expect("Redis answers");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("Redis answers");
        line.trim_end().to_owned()
    }
}
