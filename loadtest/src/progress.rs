//! Says what runs, on stderr: every second to somebody who watches, every 10 seconds to a file.

use std::{
    io::{IsTerminal as _, stderr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::interval};

use crate::record::Recorder;

/// Says what runs until it is dropped.
#[derive(Debug)]
pub struct Progress {
    current: Arc<Mutex<Option<Current>>>,
    _speaker: JoinSet<()>,
}

#[derive(Debug)]
struct Current {
    name: String,
    began: Instant,
    recorder: Option<Arc<Recorder>>,
    requests_before: u64,
}

impl Progress {
    /// Nothing runs yet.
    pub fn start() -> Self {
        let current = Arc::new(Mutex::new(None));
        let mut speaker = JoinSet::new();
        speaker.spawn(speak(Arc::clone(&current)));
        Self { current, _speaker: speaker }
    }

    /// From now on this runs.
    pub fn begin(&self, name: &str, seconds: u32) {
        eprintln!("==> {name}, {seconds} s");
        let began = Instant::now();
        self.set(Some(Current { name: name.to_owned(), began, recorder: None, requests_before: 0 }));
    }

    /// What runs is taken down here.
    pub fn watch(&self, recorder: &Arc<Recorder>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_mut() {
            current.recorder = Some(Arc::clone(recorder));
            current.requests_before = 0;
        }
    }

    /// Nothing runs any more.
    pub fn end(&self) {
        self.set(None);
    }

    fn set(&self, current: Option<Current>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

async fn speak(current: Arc<Mutex<Option<Current>>>) {
    let pause = if stderr().is_terminal() { 1 } else { 10 };
    let mut ticks = interval(Duration::from_secs(pause));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_mut() {
            eprintln!("    {}", current.line(pause));
        }
    }
}

impl Current {
    /// What happened since the line before, `pause` seconds ago.
    fn line(&mut self, pause: u64) -> String {
        let (name, seconds) = (&self.name, self.began.elapsed().as_secs());
        let Some(recorder) = &self.recorder else { return format!("{name}: {seconds} s") };
        let (requests, problems) = recorder.so_far();
        let rate = requests.saturating_sub(self.requests_before) / pause.max(1);
        self.requests_before = requests;
        format!("{name}: {seconds} s, {requests} requests, {rate}/s, {problems} problems")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_and_how_fast() {
        let recorder = Recorder::new().unwrap();
        let mut current =
            Current { name: "burst".to_owned(), began: Instant::now(), recorder: None, requests_before: 0 };
        assert_eq!(current.line(1), "burst: 0 s");
        current.recorder = Some(Arc::clone(&recorder));
        for _ in 0..20 {
            recorder.good(201, Instant::now());
        }
        recorder.failed("connection refused");
        assert_eq!(current.line(10), "burst: 0 s, 21 requests, 2/s, 1 problems");
        assert_eq!(current.line(10), "burst: 0 s, 21 requests, 0/s, 1 problems");
    }
}
