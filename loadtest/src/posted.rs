//! Which tasks were posted when, and which of them came back as a webhook.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{record::Recorder, row::Row};

/// What a receiver answers.
const NO_CONTENT: u16 = 204;
const TITLE: &str = "Load test";

/// A task that came back as a webhook.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The number in its title; none when the title is not one of ours.
    pub number: Option<usize>,
    /// When it was there.
    pub at: Instant,
}

/// The tasks of a scenario, by their numbers.
#[derive(Debug)]
pub struct Posted {
    tasks: Vec<Times>,
    came: AtomicU64,
    repeats: AtomicU64,
    recorder: Arc<Recorder>,
}

#[derive(Debug, Default)]
struct Times {
    sent: OnceLock<Instant>,
    came: OnceLock<Instant>,
}

impl Posted {
    /// For so many tasks. The time of each from its POST to its webhook goes to the recorder.
    pub fn new(count: usize, recorder: Arc<Recorder>) -> Arc<Self> {
        let tasks = (0..count).map(|_| Times::default()).collect();
        Arc::new(Self { tasks, came: AtomicU64::new(0), repeats: AtomicU64::new(0), recorder })
    }

    /// A task is about to be posted.
    pub fn sent(&self, number: usize) {
        if let Some(task) = self.tasks.get(number) {
            // A task is posted once.
            let _known = task.sent.set(Instant::now());
        }
    }

    /// A webhook came.
    pub fn arrived(&self, arrival: Arrival) {
        let task = arrival.number.and_then(|number| self.tasks.get(number));
        let Some((task, sent)) = task.and_then(|task| Some((task, *task.sent.get()?))) else {
            return self.recorder.wrong("a webhook of a task that was never posted");
        };
        if task.came.set(arrival.at).is_err() {
            self.repeats.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.came.fetch_add(1, Ordering::Relaxed);
        self.recorder.good_at(NO_CONTENT, sent, arrival.at);
    }

    /// Waits until so many have come; gives up, and takes down what is missing, when nothing has come for so long.
    pub async fn wait_for(&self, expected: u64, patience: Duration) {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let came = self.came.load(Ordering::Relaxed);
            if came >= expected {
                return;
            }
            if came > before {
                (before, since) = (came, Instant::now());
            } else if since.elapsed() > patience {
                return self.recorder.wrong_times("a webhook that never came", expected - came);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Notes how many came more than once, as they may.
    pub fn note(&self, row: Row) -> Row {
        match self.repeats.load(Ordering::Relaxed) {
            0 => row,
            repeats => row.note(format!("{repeats} came again")),
        }
    }
}

/// The title that says which task it is.
pub fn title(number: usize) -> String {
    format!("{TITLE} {number}")
}

/// The number in such a title.
pub fn number(title: &str) -> Option<usize> {
    title.strip_prefix(TITLE)?.trim_start().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Loop;

    #[test]
    fn the_title_says_which_task_it_is() {
        assert_eq!(number(&title(0)), Some(0));
        assert_eq!(number(&title(4711)), Some(4711));
        assert_eq!(number("Fix the lift"), None);
    }

    #[tokio::test]
    async fn what_came_twice_is_counted_once_and_what_never_came_is_a_problem() {
        let recorder = Recorder::new().unwrap();
        let posted = Posted::new(3, Arc::clone(&recorder));
        (0..3).for_each(|number| posted.sent(number));
        for number in [0, 2, 0] {
            posted.arrived(Arrival { number: Some(number), at: Instant::now() });
        }
        posted.wait_for(2, Duration::ZERO).await;
        assert!(recorder.row("delivered", Loop::Open).is_fine());
        let row = posted.note(recorder.row("delivered", Loop::Open));
        assert_eq!(row.notes, ["1 came again"]);
        posted.wait_for(3, Duration::from_millis(30)).await;
        assert_eq!(recorder.row("delivered", Loop::Open).problem_count(), 1);
    }

    #[test]
    fn a_webhook_of_somebody_elses_task_is_a_problem() {
        let recorder = Recorder::new().unwrap();
        let posted = Posted::new(1, Arc::clone(&recorder));
        for number in [None, Some(0), Some(7)] {
            posted.arrived(Arrival { number, at: Instant::now() });
        }
        assert_eq!(recorder.row("delivered", Loop::Open).problem_count(), 3);
    }
}
