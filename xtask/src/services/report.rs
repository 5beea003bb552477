//! What `status` and `env` print.

use anyhow::Result;
use serde::Serialize;

use super::state::State;
use super::{Service, external};

/// How a service of ours is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It answers.
    Up,
    /// Its processes are stopped by a signal.
    Paused,
    /// It does not answer.
    Down,
}

/// One line of `status`. No password is in it.
#[derive(Serialize)]
pub struct Report {
    service: &'static str,
    state: &'static str,
    how: String,
    address: String,
    pid: Option<u32>,
    console: Option<String>,
    /// Whether it can be used now.
    #[serde(skip)]
    pub up: bool,
}

impl Report {
    /// A service somebody else runs.
    pub fn external(service: Service, url: &str) -> Self {
        let checked = external::check(service, url);
        let state = if checked.is_ok() { "up" } else { "unreachable" };
        let address = external::address(service, url).unwrap_or_else(|_| "?".to_owned());
        Self {
            service: service.name(),
            state,
            how: "external".to_owned(),
            address,
            pid: None,
            console: None,
            up: checked.is_ok(),
        }
    }

    /// A service that was never set up here.
    pub fn absent(service: Service) -> Self {
        let none = "-".to_owned();
        Self {
            service: service.name(),
            state: "absent",
            how: none.clone(),
            address: none,
            pid: None,
            console: None,
            up: false,
        }
    }

    /// A service `up` has started at least once.
    pub fn ours(service: Service, state: &State, condition: Condition, pid: Option<u32>) -> Self {
        let (word, up) = match condition {
            Condition::Up => ("up", true),
            Condition::Paused => ("paused", false),
            Condition::Down => ("down", false),
        };
        Self {
            service: service.name(),
            state: word,
            how: state.how.to_string(),
            address: format!("127.0.0.1:{}", state.port),
            pid,
            console: service.console(state).filter(|_| up),
            up,
        }
    }
}

/// For people.
pub fn table(reports: &[Report]) -> String {
    let line = |service: &str, state: &str, how: &str, address: &str, pid: &str, console: &str| {
        let line = format!("{service:<10} {state:<12} {how:<9} {address:<22} {pid:<8} {console}");
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line("service", "state", "how", "address", "pid", "console");
    for report in reports {
        let console = report.console.as_deref().unwrap_or_default();
        let pid = report.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        text.push_str(&line(report.service, report.state, &report.how, &report.address, &pid, console));
    }
    text
}

/// For programs.
pub fn json(reports: &[Report]) -> Result<String> {
    Ok(serde_json::to_string_pretty(reports)? + "\n")
}

/// For a shell.
pub fn export(name: &str, value: &str) -> String {
    format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_survives_any_value() {
        assert_eq!(export("A", "b c"), "export A='b c'\n");
        assert_eq!(export("A", "it's"), "export A='it'\\''s'\n");
    }

    #[test]
    fn an_absent_service_is_a_line_of_the_table_and_null_in_json() {
        let reports = [Report::absent(Service::Postgres)];
        assert!(table(&reports).lines().nth(1).unwrap().starts_with("postgres   absent"));
        assert!(json(&reports).unwrap().contains("\"pid\": null"));
    }
}
