//! The brokers: those that are configured, by the very ports that would use them.

use std::{path::Path, time::Duration};

use secrecy::ExposeSecret as _;
use taskpost_common::{
    Clock,
    config::{Config, Database, Kafka},
};
use taskpost_ports::{Log, PortHealth, log::kafka::TopicState};
use taskpost_store::{Db, StoreError};
use taskpost_workers::MailSettings;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Finding, in_time};
use crate::{ports::Ports, wire::Roles};

/// How long a broker has to be reached for the first time.
const REACH: Duration = Duration::from_secs(5);
/// The wait between two looks.
const AGAIN: Duration = Duration::from_millis(300);

pub(super) async fn look(config: &Config, clock: &Clock, stand_in: &Path) -> Vec<Finding> {
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let ports = match stand(config, stand_in).await {
        Ok(db) => Ports::open(config, Roles::ALL, &db, clock, &mut tasks, &stop),
        Err(error) => Err(error.into()),
    };
    let (ports, mail) = match ports {
        Ok(ports) => tokio::join!(in_time("brokers", of_ports(config, ports)), mail(config)),
        Err(error) => {
            let wrong = Finding::fail("brokers", format!("{error:#}"), "correct the variable");
            (vec![wrong], mail(config).await)
        }
    };
    stop.cancel();
    tasks.shutdown().await;
    ports.into_iter().chain(mail).collect()
}

/// A store for the ports to stand on, which the looks at brokers do not touch.
async fn stand(config: &Config, stand_in: &Path) -> Result<Db, StoreError> {
    match &config.database {
        Database::Sqlite => Db::sqlite(stand_in).await,
        Database::Postgres(url) => Db::postgres_lazy(url.expose_secret(), 2),
    }
}

async fn of_ports(config: &Config, ports: Ports) -> Vec<Finding> {
    let Ports { log, queue, limiter, .. } = &ports;
    let queue = async || match queue {
        Some(queue) => queue.check().await,
        None => PortHealth::well("local"),
    };
    let (log, queue, limiter) = tokio::join!(
        event_log(config, log),
        reached("delivery queue", config.rabbitmq.is_some(), "the store's deliveries table", queue),
        reached("rate limit", config.redis.is_some(), "in this process", async || limiter.health().await),
    );
    vec![log, queue, limiter]
}

async fn event_log(config: &Config, log: &Log) -> Finding {
    const NAME: &str = "event log";
    let (Log::Kafka(kafka), Some(settings)) = (log, &config.kafka) else {
        return Finding::ok(NAME, "the store's events table");
    };
    let (reached, topics) =
        tokio::join!(reached(NAME, true, "", async || log.check().await), kafka.inspect());
    match topics {
        // That a topic is missing may be all that the port has found.
        Ok(topics) => of_topics(NAME, settings, &topics),
        Err(_) => reached,
    }
}

fn of_topics(name: &'static str, settings: &Kafka, topics: &[TopicState]) -> Finding {
    let (partitions, copies) = (usize::from(settings.partitions), usize::from(settings.replication));
    let those = |of: &dyn Fn(&TopicState) -> bool| {
        let names: Vec<&str> =
            topics.iter().filter(|topic| of(topic)).map(|topic| topic.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let there = |topic: &TopicState| topic.partitions > 0;
    if let Some(names) = those(&|topic| topic.leaderless > 0) {
        let mend = "see that all brokers of KAFKA_BROKERS are up";
        return Finding::fail(name, format!("kafka: nobody leads partitions of {names}"), mend);
    }
    if let Some(names) = those(&|topic| !there(topic)) {
        let mend = "start `taskpost consumers`, or `taskpost` alone, which makes them";
        return Finding::warn(name, format!("kafka: {names} are not there yet"), mend);
    }
    if let Some(names) = those(&|topic| topic.in_sync < topic.copies) {
        let mend = "see that all brokers of KAFKA_BROKERS are up and keep pace";
        return Finding::warn(name, format!("kafka: copies of {names} are behind"), mend);
    }
    if let Some(names) = those(&|topic| topic.copies < copies) {
        let mend = "reassign their partitions by kafka-reassign-partitions, or set KAFKA_REPLICATION to what they have";
        return Finding::warn(name, format!("kafka: {names} have fewer than {copies} copies"), mend);
    }
    if let Some(names) = those(&|topic| topic.partitions != partitions) {
        let mend = "set KAFKA_PARTITIONS to what they have: it is for topics that are yet to be made, and changing \
                    those that are there breaks the order of events";
        return Finding::warn(name, format!("kafka: {names} have other than {partitions} partitions"), mend);
    }
    let copies = if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") };
    let detail = format!("kafka: {} topics, each {partitions} partitions, {copies}", topics.len());
    Finding::ok(name, detail)
}

/// Asks until all is well or the time is over: a connection takes a moment.
async fn reached(
    name: &'static str,
    configured: bool,
    embedded: &'static str,
    ask: impl AsyncFn() -> PortHealth,
) -> Finding {
    if !configured {
        return Finding::ok(name, embedded);
    }
    let until = Instant::now() + REACH;
    loop {
        match ask().await {
            PortHealth { name: what, problem: None } => return Finding::ok(name, what),
            PortHealth { problem: Some(problem), .. } if Instant::now() >= until => {
                return from_problem(name, &problem);
            }
            PortHealth { .. } => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// What is wrong, and after a semicolon that stands in no parenthesis what to do.
fn from_problem(name: &'static str, problem: &str) -> Finding {
    let mut depth = 0_i32;
    let end = problem.char_indices().find(|(_, character)| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        *character == ';' && depth == 0
    });
    let (detail, mend) = end.map_or((problem, ""), |(at, _)| problem.split_at(at));
    let variable = problem.split(':').next().unwrap_or_default();
    match mend.trim_start_matches([';', ' ']) {
        "" => Finding::fail(name, detail, format!("see that it is up, and that {variable} is right")),
        mend => Finding::fail(name, detail, mend),
    }
}

async fn mail(config: &Config) -> Vec<Finding> {
    const NAME: &str = "e-mail";
    if config.smtp.is_none() {
        return vec![Finding::ok(NAME, format!("files in {}", config.data_dir.join("mail").display()))];
    }
    let settings = MailSettings {
        folder: config.data_dir.join("mail"),
        smtp: config.smtp.clone(),
        from: config.mail_from.clone(),
        public_url: config.public_url.clone(),
    };
    match settings.mailer(1) {
        Ok(mailer) => vec![reached(NAME, true, "", async || mailer.check().await).await],
        Err(error) => vec![Finding::fail(NAME, error.to_string(), "correct SMTP_URL")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn topics_are_held_to_the_settings() {
        let settings = |name: &str| match name {
            "KAFKA_BROKERS" => Some("localhost:9092".to_owned()),
            "KAFKA_PARTITIONS" => Some("6".to_owned()),
            "KAFKA_REPLICATION" => Some("3".to_owned()),
            _ => None,
        };
        let settings = Config::load(settings).unwrap().kafka.unwrap();
        let well =
            TopicState { name: "t.work".to_owned(), partitions: 6, copies: 3, in_sync: 3, leaderless: 0 };
        for (topic, verdict, says) in [
            (well.clone(), Verdict::Ok, "6 partitions, 3 copies"),
            (TopicState { leaderless: 1, ..well.clone() }, Verdict::Fail, "nobody leads"),
            (
                TopicState { partitions: 0, copies: 0, in_sync: 0, ..well.clone() },
                Verdict::Warn,
                "not there yet",
            ),
            (TopicState { in_sync: 2, ..well.clone() }, Verdict::Warn, "behind"),
            (TopicState { copies: 1, in_sync: 1, ..well.clone() }, Verdict::Warn, "fewer than 3 copies"),
            (TopicState { partitions: 3, ..well }, Verdict::Warn, "other than 6"),
        ] {
            let finding = of_topics("event log", &settings, &[topic]);
            assert!(finding.verdict == verdict && finding.detail.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn a_problem_says_what_is_wrong_and_then_what_to_do() {
        for (problem, detail, mend) in [
            (
                "A_URL: away (refused; 1/1 down); start it; then wait",
                "A_URL: away (refused; 1/1 down)",
                "start it; then wait",
            ),
            ("A_URL: away", "A_URL: away", "see that it is up, and that A_URL is right"),
        ] {
            let finding = from_problem("a", problem);
            assert_eq!((finding.detail.as_str(), finding.mend.as_deref()), (detail, Some(mend)));
        }
    }
}
