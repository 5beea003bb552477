//! What the demo is made of.

use taskpost_common::{post::PostStatus, project::Visibility, task::Priority};

/// How many tasks each project has.
pub(super) const TASKS: usize = 12;

const PEOPLE: [(&str, &str); 10] = [
    ("ada", "Ada Lovelace"),
    ("grace", "Grace Hopper"),
    ("edsger", "Edsger Dijkstra"),
    ("barbara", "Barbara Liskov"),
    ("alan", "Alan Turing"),
    ("katherine", "Katherine Johnson"),
    ("donald", "Donald Knuth"),
    ("radia", "Radia Perlman"),
    ("leslie", "Leslie Lamport"),
    ("margaret", "Margaret Hamilton"),
];

/// The e-mail and the name of one of the people.
pub(super) fn person(number: usize) -> (String, String) {
    let (word, name) = PEOPLE[number % PEOPLE.len()];
    match number / PEOPLE.len() {
        0 => (format!("{word}@taskpost.example"), name.to_owned()),
        round => (format!("{word}{}@taskpost.example", round + 1), format!("{name} {}", round + 1)),
    }
}

/// A name, a color and a meaning.
pub(super) const LABELS: [(&str, &str, &str); 4] = [
    ("security", "#d73a4a", "Somebody could come to harm"),
    ("customer", "#0e8a16", "A customer asked for it"),
    ("quick", "#fbca04", "Less than an hour"),
    ("blocked", "#5319e7", "Waits for somebody else"),
];

/// What people say; `@somebody` is one of them.
pub(super) const COMMENTS: [&str; 6] = [
    "@somebody can you have a look at this?",
    "Done on my side; @somebody, the rest is yours.",
    "I could not reproduce it. What did you do before?",
    "Let us wait for the next delivery, then decide. @somebody knows when that is.",
    "This is larger than it looks:\n\n- the old one has to go\n- the new one is not here yet",
    "Thanks, @somebody, that was quick!",
];

/// A post, and how far it is.
pub(super) struct Post {
    pub(super) title: &'static str,
    pub(super) body: &'static str,
    pub(super) status: PostStatus,
}

pub(super) const POSTS: [Post; 3] = [
    Post {
        title: "What we did this month",
        body: "More than half of what was open is **done**. Next month we look after what is overdue.",
        status: PostStatus::Published,
    },
    Post {
        title: "Plans for the next quarter",
        body: "A draft: please do not quote from it yet.",
        status: PostStatus::Draft,
    },
    Post {
        title: "Planned downtime on Sunday",
        body: "It does not take place after all.",
        status: PostStatus::Unpublished,
    },
];

pub(super) const NEWS: [Post; 1] = [Post {
    title: "Welcome to Taskpost",
    body: "All of this is a demo: look around, change things, break things.",
    status: PostStatus::Published,
}];

/// What a project is about.
pub(super) struct Theme {
    key: &'static str,
    title: &'static str,
    pub(super) description: &'static str,
    pub(super) visibility: Visibility,
    pub(super) categories: [&'static str; 3],
    tasks: [&'static str; TASKS],
}

static THEMES: [Theme; 5] = [
    Theme {
        key: "OPS",
        title: "Operations",
        description: "Keeps everything running.",
        visibility: Visibility::Internal,
        categories: ["Servers", "Network", "Backups"],
        tasks: [
            "Replace the disk of the second database",
            "Renew the certificate of the mail server",
            "Restore last night's backup for real",
            "Alert when the queue grows",
            "Move the build machine to the new rack",
            "Write down how to fail over",
            "Retire the old firewall",
            "Measure the time from alarm to answer",
            "Rotate the keys of the object store",
            "Update the kernel everywhere",
            "Find out why the backup takes nine hours",
            "Label the cables",
        ],
    },
    Theme {
        key: "WEB",
        title: "Website",
        description: "What visitors see.",
        visibility: Visibility::Internal,
        categories: ["Content", "Design", "Frontend"],
        tasks: [
            "The search finds nothing with an umlaut",
            "Make the start page load in a second",
            "Rewrite the imprint",
            "The menu cannot be reached by keyboard",
            "Show prices in the visitor's currency",
            "Remove the cookies that nobody needs",
            "Pictures are upside down on some phones",
            "Add a page about the team",
            "Check all links once a week",
            "Dark mode",
            "The contact form loses what was typed",
            "Archive the blog of 2012",
        ],
    },
    Theme {
        key: "APP",
        title: "Mobile app",
        description: "For those on the road.",
        visibility: Visibility::Private,
        categories: ["Android", "iOS", "Backend"],
        tasks: [
            "Crash when the network changes",
            "Work offline for a day",
            "Log in by fingerprint",
            "Notifications come twice",
            "Translate into French",
            "Use half the battery",
            "Show how far the upload is",
            "Support the small screen",
            "The calendar begins on Sunday",
            "Send crash reports only when asked",
            "Drop the oldest version",
            "Release notes that people read",
        ],
    },
    Theme {
        key: "SUP",
        title: "Customer support",
        description: "Whatever customers ask for.",
        visibility: Visibility::Private,
        categories: ["Questions", "Complaints", "Returns"],
        tasks: [
            "The invoice names the wrong address",
            "Answer the letter of the cycling club",
            "Write a text for late deliveries",
            "A parcel came back twice",
            "Explain the discount to the resellers",
            "Call back the school",
            "Collect the ten most frequent questions",
            "Refund the broken lamp",
            "Find the missing pallet",
            "Ask ten customers how it went",
            "Close what nobody answered for a year",
            "Train the new colleague",
        ],
    },
    Theme {
        key: "FAC",
        title: "Office and facilities",
        description: "The building and what is in it.",
        visibility: Visibility::Internal,
        categories: ["Building", "Supplies", "Events"],
        tasks: [
            "Fix the lift",
            "Water the plants",
            "The heating in room 204 is always on",
            "Order chairs for the new desks",
            "Check the fire extinguishers",
            "Summer party: find a place",
            "Replace the lamps in the garage",
            "A key is missing",
            "Clean the coffee machine",
            "New sign at the entrance",
            "Bicycle stands in front of the house",
            "Cancel the second newspaper",
        ],
    },
];

/// One project of the demo.
pub(super) struct Plan {
    pub(super) key: String,
    pub(super) title: String,
    pub(super) theme: &'static Theme,
}

impl Plan {
    /// The themes come again with a number.
    pub(super) fn new(number: usize) -> Self {
        let theme = &THEMES[number % THEMES.len()];
        let (key, title) = (theme.key.to_owned(), theme.title.to_owned());
        match number / THEMES.len() {
            0 => Self { key, title, theme },
            round => {
                Self { key: format!("{key}{}", round + 1), title: format!("{title} {}", round + 1), theme }
            }
        }
    }

    /// One of its tasks.
    pub(super) fn task(&self, number: usize) -> Task {
        let hours = i64::try_from(number).unwrap_or_default() * 72 - 132;
        Task {
            title: self.theme.tasks[number % TASKS],
            category: self.theme.categories[number % 3],
            kind: ["task", "bug", "feature", "chore"][number % 4],
            priority: Priority::ALL[(number + number / 5) % Priority::ALL.len()],
            labels: match number % 3 {
                0 => &["customer"],
                1 => &["quick", "security"],
                _ => &[],
            },
            assigned: number % 4 != 3,
            due_in_hours: (number % 5 != 4).then_some(hours),
            moves: MOVES[number % MOVES.len()],
            hurries: number % 6 == 1,
            comments: number % 3,
        }
    }
}

/// A status to go to, and why where it closes the task.
type Move = (&'static str, Option<&'static str>);

/// What becomes of tasks: each status is the last of some.
const MOVES: [&[Move]; 6] = [
    &[],
    &[("in_progress", None)],
    &[("in_progress", None), ("in_review", None)],
    &[("in_progress", None), ("done", Some("done"))],
    &[("cancelled", Some("wont_do"))],
    &[("done", Some("done")), ("in_progress", None)],
];

/// A task of the demo, and what happens to it.
pub(super) struct Task {
    pub(super) title: &'static str,
    pub(super) category: &'static str,
    pub(super) kind: &'static str,
    pub(super) priority: Priority,
    pub(super) labels: &'static [&'static str],
    pub(super) assigned: bool,
    pub(super) due_in_hours: Option<i64>,
    pub(super) moves: &'static [Move],
    pub(super) hurries: bool,
    pub(super) comments: usize,
}

impl Task {
    /// Markdown.
    pub(super) fn description(&self) -> String {
        format!(
            "**{}**, as far as we know today.\n\n- [ ] find out what is needed\n- [ ] do it\n- [ ] tell who asked",
            self.title
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use taskpost_common::workflow::Workflow;

    use super::*;

    #[test]
    fn each_status_priority_and_type_is_there() {
        let plan = Plan::new(0);
        let tasks: Vec<Task> = (0..TASKS).map(|number| plan.task(number)).collect();
        let last = |task: &Task| task.moves.last().map_or("todo", |(to, _)| *to);
        let statuses: HashSet<&str> = tasks.iter().map(last).collect();
        let known = Workflow::standard();
        assert!(known.statuses.iter().all(|status| statuses.contains(status.name.as_str())), "{statuses:?}");
        assert!(Priority::ALL.iter().all(|priority| tasks.iter().any(|task| task.priority == *priority)));
        assert!(known.task_types.iter().all(|kind| tasks.iter().any(|task| task.kind == kind)));
    }

    #[test]
    fn nobody_and_nothing_is_there_twice() {
        let people: HashSet<String> = (0..35).map(|number| person(number).0).collect();
        let keys: HashSet<String> = (0..35).map(|number| Plan::new(number).key).collect();
        assert_eq!((people.len(), keys.len()), (35, 35));
        assert!(keys.iter().all(|key| (2..=10).contains(&key.len())));
    }
}
