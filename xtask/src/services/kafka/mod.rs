//! Apache Kafka as a process of this machine: one node, broker and controller in one (KRaft), 127.0.0.1 only.

mod jars;
mod java;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub use self::jars::KAFKA as VERSION;
use super::native::{Prepared, Server};
use super::state::State;
use super::{Service, wire};
use crate::process;
use crate::progress::Progress;

/// One node has one copy of everything. The small numbers make groups join and the server come back quickly; a client
/// that wants a topic makes it.
pub const SETTINGS: [(&str, &str); 22] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("auto.create.topics.enable", "false"),
    ("delete.topic.enable", "true"),
    ("unclean.leader.election.enable", "false"),
    ("default.replication.factor", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "5"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "5"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("broker.session.timeout.ms", "4000"),
    ("broker.heartbeat.interval.ms", "1000"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("log.retention.hours", "168"),
    ("log.segment.bytes", "67108864"),
    ("log.cleaner.dedupe.buffer.size", "16777216"),
];

/// Any 16 bytes in base64: there is one node, and it meets no other cluster.
const CLUSTER: &str = "taskpost-infra-tests-A";

/// The controller's, and the one for clients that come through a proxy.
pub const OTHER_PORTS: usize = 2;

/// Tells tests what [`proxied`] says.
pub const PROXIED: &str = "TASKPOST_TEST_KAFKA_PROXIED";

/// Where the proxy must listen. It is this machine as well, so whoever owns a port of 127.0.0.1 has it here too.
const PROXY: &str = "127.0.0.2";

/// How it runs natively. There is no package and so no user for it.
pub const SERVER: Server =
    Server { service: Service::Kafka, user: "kafka", find: java::find, prepare, probe };

/// The brokers.
pub fn url(state: &State) -> String {
    format!("127.0.0.1:{}", state.port)
}

/// `address,address`: where it listens for a proxy, and where its clients are told to find it, which is the proxy.
pub fn proxied(state: &State) -> Result<String> {
    let port = state.other_port(1)?;
    Ok(format!("127.0.0.1:{port},{PROXY}:{port}"))
}

fn prepare(server: &Prepared, progress: &Progress) -> Result<Command> {
    let jars = jars::get(server, progress)?;
    let path = server.write("server.properties", &settings(server.home, server.state)?)?;
    if !data(server.home).join("meta.properties").exists() {
        progress.step("kafka: creating its data");
        server.folder("data")?;
        let mut format = server.helper(&server.program);
        java::arguments(&mut format, &jars, "128m");
        format.args(["kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", CLUSTER]);
        process::must(format.arg("--config").arg(&path))?;
    }
    let mut command = server.server();
    java::arguments(&mut command, &jars, "512m");
    command.arg("kafka.Kafka").arg(&path);
    Ok(command)
}

fn data(home: &Path) -> PathBuf {
    home.join("data")
}

/// The server's settings as a file.
fn settings(home: &Path, state: &State) -> Result<String> {
    let (port, controller, proxied) = (state.port, state.other_port(0)?, state.other_port(1)?);
    let data = data(home);
    let data = data.to_str().context("the folder's name is not UTF-8")?;
    ensure!(!data.contains(['\\', '\n', ',']), "Kafka cannot keep data in {data}");
    let mut text = format!("log.dirs={data}\n");
    let listens = |name: &str, host: &str, port: u16| format!("{name}://{host}:{port}");
    let own = listens("PLAINTEXT", "127.0.0.1", port);
    let control = listens("CONTROLLER", "127.0.0.1", controller);
    writeln!(text, "listeners={own},{},{control}", listens("PROXIED", "127.0.0.1", proxied))?;
    writeln!(text, "advertised.listeners={own},{}", listens("PROXIED", PROXY, proxied))?;
    let plain = ["PLAINTEXT", "PROXIED", "CONTROLLER"].map(|name| format!("{name}:PLAINTEXT"));
    writeln!(text, "listener.security.protocol.map={}", plain.join(","))?;
    writeln!(text, "controller.quorum.voters=1@127.0.0.1:{controller}")?;
    for (name, value) in SETTINGS {
        writeln!(text, "{name}={value}")?;
    }
    Ok(text)
}

/// Asks for the brokers (Metadata, version 1, of no topic). One that is still starting does not count itself.
fn probe(state: &State) -> Result<()> {
    const QUESTION: [u8; 14] = [0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];
    let mut stream = wire::connect(state.port)?;
    let question = [&wire::length(&QUESTION)?[..], &QUESTION].concat();
    let length = wire::number(&wire::ask(&mut stream, &question, 4)?)?;
    let answer = wire::ask(&mut stream, &[], length)?;
    ensure!(answer.get(..4) == Some(&[0, 0, 0, 7]), "Kafka answers another question");
    let brokers = wire::number(answer.get(4..8).context("Kafka's answer is too short")?)?;
    ensure!(brokers > 0, "Kafka has no broker yet");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_for_this_machine_only() {
        let mut state = State::of(28500, "");
        state.other_ports = vec![28501, 28502];
        let text = settings(Path::new("home"), &state).unwrap();
        for line in [
            "log.dirs=home/data",
            "listeners=PLAINTEXT://127.0.0.1:28500,PROXIED://127.0.0.1:28502,CONTROLLER://127.0.0.1:28501",
            "advertised.listeners=PLAINTEXT://127.0.0.1:28500,PROXIED://127.0.0.2:28502",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert_eq!(proxied(&state).unwrap(), "127.0.0.1:28502,127.0.0.2:28502");
    }

    #[test]
    fn a_cluster_id_is_16_bytes_in_base64() {
        assert_eq!(CLUSTER.len(), 22);
        assert!(CLUSTER.ends_with(['A', 'Q', 'g', 'w']), "the last character has four bits to spare");
    }
}
