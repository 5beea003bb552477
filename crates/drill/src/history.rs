//! What every client was told, and when what was broken: one JSON object a line, and the same in memory for the checkers.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::services::Service;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// A task, whose title is the key.
    Create,
    /// A task that must be refused, whose title is the key.
    CreateBadly,
    /// To start the work on the task of this id.
    Start(String),
}

/// One wish of a client under one Idempotency-Key, and all it was told, as it asked until it knew.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The Idempotency-Key, and of a creation the task's title. No two operations of a history share one.
    pub key: String,
    /// What it is.
    pub wish: Wish,
    /// Oldest first.
    pub answers: Vec<Answer>,
}

/// What a client was told.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Milliseconds since the case began.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// The status; none when the connection broke or no answer came in time.
    pub status: Option<u16>,
    /// The task of a 2xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Its version in a 2xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// What a client knows in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// 2xx: it must be there.
    Done {
        /// The task's id.
        task: String,
    },
    /// Nothing but 4xx: it must not be there.
    Refused,
    /// It may be there or not.
    Unknown,
}

impl Operation {
    /// What the client knows in the end.
    pub fn known(&self) -> Known {
        if let Some(task) = self.answers.iter().find_map(|answer| answer.task.clone()) {
            return Known::Done { task };
        }
        let refused = |answer: &Answer| answer.status.is_some_and(|status| (400..500).contains(&status));
        if !self.answers.is_empty() && self.answers.iter().all(refused) {
            return Known::Refused;
        }
        Known::Unknown
    }
}

/// Something that was done to the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A fault was seen to work, in words.
    Fault(String),
    /// A service is away from now on, for every process.
    Away(Service),
    /// A service is there again.
    Back(Service),
    /// A process cannot answer from now on: it was killed, frozen or is being restarted.
    Down(&'static str),
    /// It can again.
    Up(&'static str),
    /// Every fault is over.
    Healed,
    /// The clients have stopped.
    Stopped,
}

/// The history of one case.
#[derive(Debug)]
pub struct History {
    began: Instant,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    file: BufWriter<File>,
    operations: Vec<Operation>,
    by_key: HashMap<String, usize>,
    marks: Vec<(Duration, Mark)>,
    acknowledged: usize,
    repeated: usize,
}

#[derive(Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line<'a> {
    Invoke {
        at_ms: u64,
        key: &'a str,
        wish: &'a Wish,
    },
    Answer {
        key: &'a str,
        #[serde(flatten)]
        answer: &'a Answer,
    },
    Mark {
        at_ms: u64,
        mark: &'a Mark,
    },
}

impl History {
    /// A history that begins now, in this file.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let inside = Inside {
            file: BufWriter::new(File::create(path)?),
            operations: Vec::new(),
            by_key: HashMap::new(),
            marks: Vec::new(),
            acknowledged: 0,
            repeated: 0,
        };
        Ok(Self { began: Instant::now(), inside: Mutex::new(inside) })
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// A client asks; again, if it asked before.
    pub fn invoke(&self, key: &str, wish: &Wish) {
        let at_ms = self.now_ms();
        let mut inside = self.inside();
        inside.write(&Line::Invoke { at_ms, key, wish });
        if inside.by_key.contains_key(key) {
            inside.repeated += 1;
            return;
        }
        let place = inside.operations.len();
        inside.by_key.insert(key.to_owned(), place);
        inside.operations.push(Operation { key: key.to_owned(), wish: wish.clone(), answers: Vec::new() });
    }

    /// A client was told something, or gave up waiting.
    pub fn answer(&self, key: &str, answer: Answer) {
        let mut inside = self.inside();
        inside.write(&Line::Answer { key, answer: &answer });
        let Some(&place) = inside.by_key.get(key) else { return };
        let first = inside.operations[place].answers.iter().all(|answer| answer.task.is_none());
        if first && answer.task.is_some() {
            inside.acknowledged += 1;
        }
        inside.operations[place].answers.push(answer);
    }

    /// Something was done to the system.
    pub fn mark(&self, mark: Mark) {
        let (at_ms, at) = (self.now_ms(), self.began.elapsed());
        let mut inside = self.inside();
        inside.write(&Line::Mark { at_ms, mark: &mark });
        inside.marks.push((at, mark));
    }

    /// How many operations were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.inside().acknowledged
    }

    /// How many requests were sent again under their key.
    pub fn repeated(&self) -> usize {
        self.inside().repeated
    }

    /// Everything the clients wanted.
    pub fn operations(&self) -> Vec<Operation> {
        self.inside().operations.clone()
    }

    /// What was done, and when since the beginning.
    pub fn marks(&self) -> Vec<(Duration, Mark)> {
        self.inside().marks.clone()
    }

    /// The faults that were seen to work.
    pub fn faults(&self) -> Vec<String> {
        let inside = self.inside();
        let faults = inside.marks.iter().filter_map(|(_, mark)| match mark {
            Mark::Fault(words) => Some(words.clone()),
            _ => None,
        });
        faults.collect()
    }

    /// Puts everything on disk.
    pub fn flush(&self) -> io::Result<()> {
        self.inside().file.flush()
    }

    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn write(&mut self, line: &Line<'_>) {
        serde_json::to_writer(&mut self.file, line).expect("the history can be written");
        self.file.write_all(b"\n").expect("the history can be written");
    }
}
