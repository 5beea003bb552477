//! What the command line may say.

use std::path::PathBuf;

use clap::Parser;

use crate::scenarios::Scenario;

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo xtask loadtest",
    about = "Loads Taskpost and says how fast it was",
    after_help = "Without --host, xtask builds the product and starts one for the run: embedded, or with --full on Postgres, Kafka, \
                  RabbitMQ and Redis."
)]
pub struct Options {
    /// The instance to load
    #[arg(long, default_value = "http://127.0.0.1:3000", value_parser = base)]
    pub host: String,
    /// Only this scenario; may be said more than once. Without it all that can run here
    #[arg(long = "scenario", value_enum, value_name = "NAME")]
    pub scenarios: Vec<Scenario>,
    /// Show the scenarios and end
    #[arg(long)]
    pub list: bool,
    /// How long each scenario runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// How many connections, or users, ask at once
    #[arg(long, visible_alias = "users", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub connections: u16,
    /// Requests in a second of the open loops; without it half of what a closed loop reached before, or 1000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Where the results go
    #[arg(long, default_value = "target/loadtest")]
    pub folder: PathBuf,
    /// The program oha; xtask builds it and says where it is
    #[arg(long, value_name = "PATH")]
    pub oha: Option<PathBuf>,
}

/// An address without a slash at its end.
fn base(text: &str) -> Result<String, String> {
    let base = text.trim_end_matches('/');
    let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#']) => Ok(base.to_owned()),
        _ => Err("expected http://host:port".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_a_scheme_a_host_and_no_path() {
        assert_eq!(base("http://127.0.0.1:3000/"), Ok("http://127.0.0.1:3000".to_owned()));
        for wrong in ["127.0.0.1:3000", "http://", "ftp://a", "http://a/v1"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_scenario_may_be_said_more_than_once() {
        let line = ["loadtest", "--scenario", "oha-open", "--scenario", "async", "--users", "8"];
        let options = Options::parse_from(line);
        assert_eq!(options.scenarios, [Scenario::OhaOpen, Scenario::Async]);
        assert_eq!(options.connections, 8);
        assert!(Options::try_parse_from(["loadtest", "--seconds", "0"]).is_err());
    }
}
