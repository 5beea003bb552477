//! RabbitMQ as a process of this machine: a node of its own with its own name, ports, cookie, folders and port mapper,
//! so that it never meets a broker of the system. One user `taskpost`, an administrator; 127.0.0.1 only.

mod amqp;
pub mod disk;
mod programs;

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::Service;
use super::native::{Prepared, Server};
use super::state::State;
use crate::progress::Progress;

/// The file with the limits, which docker-compose.infra.yml gives to its container.
pub const LIMITS_FILE: &str = "deploy/rabbitmq.infra.conf";
const LIMITS: &str = include_str!("../../../../deploy/rabbitmq.infra.conf");

/// Its distribution's, its port mapper's and its console's.
pub const OTHER_PORTS: usize = 3;

/// How it runs natively.
pub const SERVER: Server = Server {
    service: Service::Rabbitmq,
    user: "rabbitmq",
    find: programs::find,
    prepare,
    probe: amqp::probe,
};

/// The address, with the password.
pub fn url(state: &State) -> String {
    format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", state.password, state.port)
}

/// The management plugin's page.
pub fn console(state: &State) -> Option<String> {
    Some(format!("http://127.0.0.1:{}", state.other_port(2).ok()?))
}

const USER: &str = "taskpost";
const LOCAL_ONLY: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// Tells a program of RabbitMQ's which node is ours.
fn node(command: &mut Command, server: &Prepared) -> Result<()> {
    command
        .env("RABBITMQ_NODENAME", "taskpost@localhost")
        .env("ERL_EPMD_PORT", server.state.other_port(1)?.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // None of the system's own settings: this file is not there.
        .env("RABBITMQ_CONF_ENV_FILE", server.home.join("rabbitmq-env.conf"));
    Ok(())
}

fn prepare(server: &Prepared, _: &Progress) -> Result<Command> {
    let state = server.state;
    let settings = server.write("rabbitmq.conf", &settings(state)?)?;
    let plugins = server.write("enabled_plugins", "[rabbitmq_management].\n")?;
    server.write(".erlang.cookie", &state.password)?;
    let (data, logs) = (server.folder("mnesia")?, server.folder("log")?);
    let mut command = server.server();
    node(&mut command, server)?;
    command
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", state.port.to_string())
        .env("RABBITMQ_DIST_PORT", state.other_port(0)?.to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", LOCAL_ONLY)
        .env("RABBITMQ_MNESIA_BASE", &data)
        .env("RABBITMQ_LOG_BASE", &logs)
        .env("RABBITMQ_GENERATED_CONFIG_DIR", server.folder("config")?)
        .env("RABBITMQ_PID_FILE", server.home.join("rabbitmq.pid"))
        .env("RABBITMQ_CONFIG_FILE", settings)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        // None of the system's own files: these are not there.
        .env("RABBITMQ_CONFIG_FILES", server.home.join("conf.d"))
        // The script becomes the server instead of waiting for it.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    Ok(command)
}

/// The server's settings as a file. The user is made when the node has no data yet.
fn settings(state: &State) -> Result<String> {
    let mut text = format!("listeners.tcp.default = 127.0.0.1:{}\n", state.port);
    writeln!(text, "default_user = {USER}\ndefault_pass = {}", state.password)?;
    writeln!(text, "default_user_tags.administrator = true\ndefault_vhost = /")?;
    for right in ["configure", "read", "write"] {
        writeln!(text, "default_permissions.{right} = .*")?;
    }
    writeln!(text, "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}", state.other_port(2)?)?;
    writeln!(text, "log.console = false\nlog.file.level = info")?;
    text.push_str(LIMITS);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_for_this_machine_only() {
        let mut state = State::of(28600, "secret");
        state.other_ports = vec![28601, 28602, 28603];
        let text = settings(&state).unwrap();
        assert!(text.contains("listeners.tcp.default = 127.0.0.1:28600\n"), "{text}");
        assert!(text.contains("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = 28603\n"), "{text}");
        assert_eq!(url(&state), "amqp://taskpost:secret@127.0.0.1:28600/%2f");
    }
}
