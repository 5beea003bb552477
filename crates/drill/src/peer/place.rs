//! Where one run of the peer keeps its things, and the processes that use them.

use std::net::{Ipv4Addr, TcpListener};

use taskpost_common::Clock;
use taskpost_testkit::{Part, WebhookSink};
use uuid::Uuid;

use super::{Way, process::Process, queue::Queue, store::Store};
use crate::services::variable;

/// A schema and a queue that nobody else uses.
pub(super) struct Place {
    pub store: Store,
    queue: Queue,
}

/// The peer's processes.
pub(super) struct Peer {
    pub port: u16,
    pub api: Process,
    /// Only where there is an outbox.
    pub reader: Option<Process>,
    pub worker: Process,
}

impl Place {
    pub(super) fn new() -> Self {
        let name = format!("peer_{}", Clock::system().id::<Uuid>().simple());
        Self {
            queue: Queue { rabbitmq: Part::RabbitMq.url(), name: name.clone() },
            store: Store { database: variable("TASKPOST_TEST_POSTGRES_URL"), schema: name },
        }
    }

    /// Starts the processes that a way needs.
    pub(super) fn start(&self, way: Way, sink: &WebhookSink) -> anyhow::Result<Peer> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let queue = ["--rabbitmq", &self.queue.rabbitmq, "--queue", &self.queue.name];
        let store = ["--database", &self.store.database, "--schema", &self.store.schema];
        let process = |name, options: &[&[&str]]| {
            let words = [name].into_iter().chain(options.concat());
            Process::start(words.map(str::to_owned).collect())
        };
        Ok(Peer {
            port,
            api: process("api", &[&queue, &store, &["--way", way.name(), "--port", &port.to_string()]])?,
            reader: match way {
                Way::Outbox => Some(process("reader", &[&queue, &store])?),
                Way::Publish => None,
            },
            worker: process("worker", &[&queue, &["--sink", &sink.url("/hook")]])?,
        })
    }

    /// Removes everything, once nobody uses it any more.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        let queue = self.queue.remove().await;
        self.store.remove().await?;
        queue
    }
}

impl Peer {
    /// An error if a process has ended by itself.
    pub(super) fn must_run(&mut self) -> anyhow::Result<()> {
        let processes = [&mut self.api, &mut self.worker].into_iter().chain(&mut self.reader);
        processes.into_iter().try_for_each(Process::must_run)
    }
}
