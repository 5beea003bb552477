//! A closed loop of 64 connections by wrk: each asks again as soon as it is answered.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench::Bench,
    figure::{Outcome, Unit},
    start::process::{Process, Ready},
};

/// A load by so many threads of wrk, over so many connections, for so many seconds.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    /// How many threads of wrk.
    pub threads: u32,
    /// How many connections, shared among the threads.
    pub connections: u32,
    /// How long.
    pub seconds: u64,
}

impl Loop {
    /// What every row uses: 64 connections.
    pub const fn lasting(seconds: u64) -> Self {
        Self { threads: 2, connections: 64, seconds }
    }
}

/// How long the load runs before it is measured: connections are made, and caches fill.
const WARM_UP: u64 = 2;
/// What a run may take longer than it should.
const LATE: Duration = Duration::from_secs(30);

/// What is asked again and again.
#[derive(Clone, Debug)]
pub struct Ask {
    /// GET or POST.
    pub method: &'static str,
    /// The paths, in turn.
    pub paths: Vec<String>,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Empty for none.
    pub body: String,
}

impl Ask {
    /// A POST of JSON by whoever has this token.
    pub fn post(path: &str, token: &str, body: impl Into<String>) -> Self {
        let json = ("Content-Type".to_owned(), "application/json".to_owned());
        let headers = vec![("Authorization".to_owned(), format!("Bearer {token}")), json];
        Self { method: "POST", paths: vec![path.to_owned()], headers, body: body.into() }
    }

    /// GETs of these paths by whoever has this token.
    pub fn get(paths: Vec<String>, token: &str) -> Self {
        let headers = vec![("Authorization".to_owned(), format!("Bearer {token}"))];
        Self { method: "GET", paths, headers, body: String::new() }
    }

    /// The script that makes wrk ask it. One path is sent as it stands; several are made ready before the load.
    fn script(&self) -> String {
        let mut lines = vec![format!("wrk.method = {:?}", self.method)];
        if !self.body.is_empty() {
            lines.push(format!("wrk.body = [==[{}]==]", self.body));
        }
        lines.extend(
            self.headers.iter().map(|(name, value)| format!("wrk.headers[{name:?}] = [==[{value}]==]")),
        );
        if self.paths.len() > 1 {
            let paths: Vec<String> = self.paths.iter().map(|path| format!("{path:?}")).collect();
            lines.push(format!("local paths = {{ {} }}", paths.join(", ")));
            lines.push("local ready, at = {}, 0".to_owned());
            lines.push(
                "init = function() for i, path in ipairs(paths) do ready[i] = wrk.format(nil, path) end end"
                    .to_owned(),
            );
            lines.push("request = function() at = at % #ready + 1; return ready[at] end".to_owned());
        }
        lines.join("\n") + "\n"
    }
}

/// What wrk says at its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// How many answers there were.
    pub requests: u64,
    /// In each second.
    pub per_second: f64,
    /// Within this time half of them came, in milliseconds.
    pub p50: f64,
    /// And 99 of 100.
    pub p99: f64,
}

impl Measured {
    /// As figures.
    pub fn outcome(&self) -> Outcome {
        Outcome::default()
            .with("per_second", self.per_second, Unit::PerSecond)
            .with("p50_ms", self.p50, Unit::Millis)
            .with("p99_ms", self.p99, Unit::Millis)
    }
}

/// As [`load`], over other connections.
pub async fn warmed(
    bench: &Bench,
    folder: &Path,
    address: SocketAddr,
    ask: &Ask,
    load: Loop,
) -> Result<(Measured, u64)> {
    let warm_up = Loop { seconds: WARM_UP, ..load };
    let warm = once(bench, folder, address, ask, warm_up).await.context("the warm-up")?;
    let measured = once(bench, folder, address, ask, load).await?;
    Ok((measured, warm.requests + measured.requests))
}

/// Warms up and measures. Gives what was measured, and how many answers there were in all.
pub async fn load(bench: &Bench, folder: &Path, address: SocketAddr, ask: &Ask) -> Result<(Measured, u64)> {
    warmed(bench, folder, address, ask, Loop::lasting(bench.seconds())).await
}

/// Measures at once. An answer that is not 2xx or 3xx, or a broken connection, is an error.
pub async fn once(
    bench: &Bench,
    folder: &Path,
    address: SocketAddr,
    ask: &Ask,
    Loop { threads, connections, seconds }: Loop,
) -> Result<Measured> {
    let path = ask.paths.first().context("nothing is asked")?;
    // Several may run at once, each against a server of its own.
    let script = folder.join(format!("ask-{}.lua", address.port()));
    fs::write(&script, ask.script()).with_context(|| format!("could not write {}", script.display()))?;
    let mut wrk = Command::new(bench.options.given.wrk.as_deref().context("there is no wrk")?);
    wrk.args(["--latency", "--timeout", "10s"]);
    wrk.args([format!("-t{threads}"), format!("-c{connections}"), format!("-d{seconds}s")]);
    wrk.arg("-s").arg(&script).arg(format!("http://{address}{path}"));
    let running = Process::start("wrk", wrk, folder, Ready::AtOnce).await?;
    let said = running.ends(Duration::from_secs(seconds) + LATE).await?;
    parse(&said)
}

fn parse(said: &str) -> Result<Measured> {
    let after = |start: &str| said.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    if let Some(count) = after("Non-2xx or 3xx responses:") {
        bail!("{count} answers were errors");
    }
    if let Some(errors) = after("Socket errors:") {
        bail!("connections broke: {errors}");
    }
    let line = said.lines().find(|line| line.contains(" requests in ")).context("wrk counted nothing")?;
    let requests: u64 = line.split_whitespace().next().unwrap_or_default().parse()?;
    ensure!(requests > 0, "nothing was answered");
    let time = |percent| {
        let text = after(percent).with_context(|| format!("wrk says nothing of {percent}"))?;
        millis(text).with_context(|| format!("{text} is no time"))
    };
    let per_second = after("Requests/sec:").context("wrk counted nothing")?.parse()?;
    Ok(Measured { requests, per_second, p50: time("50%")?, p99: time("99%")? })
}

/// `870.00us`, `3.31ms`, `1.20s`, `1.00m` in milliseconds.
fn millis(text: &str) -> Option<f64> {
    let unit = text.find(|character: char| character.is_ascii_alphabetic())?;
    let value: f64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "us" => Some(value / 1_000.0),
        "ms" => Some(value),
        "s" => Some(value * 1_000.0),
        "m" => Some(value * 60_000.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
Running 6s test @ http://127.0.0.1:4711/v1/tasks
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.41ms    1.02ms  21.33ms   87.21%
    Req/Sec     9.38k   612.00    10.42k    71.67%
  Latency Distribution
     50%    3.30ms
     75%    3.92ms
     90%  870.00us
     99%    1.20s
  112034 requests in 6.01s, 71.32MB read
Requests/sec:  18641.27
Transfer/sec:     11.87MB
";

    #[test]
    fn what_wrk_says_is_read() {
        let expected = Measured { requests: 112_034, per_second: 18_641.27, p50: 3.3, p99: 1_200.0 };
        assert_eq!(parse(SAID).unwrap(), expected);
        assert_eq!(millis("870.00us"), Some(0.87));
        assert_eq!(millis("fast"), None);
    }

    #[test]
    fn a_load_with_errors_is_an_error() {
        for line in
            ["  Non-2xx or 3xx responses: 5", "  Socket errors: connect 0, read 3, write 0, timeout 1"]
        {
            let error = parse(&format!("{SAID}{line}\n")).unwrap_err().to_string();
            assert!(error.contains('5') || error.contains("read 3"), "{error}");
        }
        assert!(parse("unable to connect\n").is_err());
        assert!(parse(&SAID.replace("112034", "0")).is_err());
    }

    #[test]
    fn a_script_says_what_is_asked() {
        let post = Ask::post("/v1/tasks", "abc", "{\"title\":\"x\"}").script();
        assert!(post.contains("wrk.method = \"POST\"\nwrk.body = [==[{\"title\":\"x\"}]==]\n"), "{post}");
        assert!(post.contains("wrk.headers[\"Authorization\"] = [==[Bearer abc]==]\n"), "{post}");
        assert!(!post.contains("request ="), "{post}");
        let get = Ask::get(vec!["/a".to_owned(), "/b".to_owned()], "abc").script();
        assert!(get.contains("local paths = { \"/a\", \"/b\" }\n") && !get.contains("wrk.body"), "{get}");
    }
}
