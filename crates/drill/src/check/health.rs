//! I9 honest health: not ready within 5 s of the loss of the database and ready within 10 s of its return,
//! ready while anything else is away, and alive always.

use std::{collections::BTreeMap, time::Duration};

use super::Findings;
use crate::{history::Mark, services::Service, watch::Sight};

/// How long a process may take to see that the database is away.
const UNREADY_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to see that the database is back.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long giving a service back may take.
const STARTING: Duration = Duration::from_secs(15);
/// At the end of its time away a service may be there already.
const RETURNING: Duration = Duration::from_secs(3);
/// A process that dies by itself is down a little before anybody sees it.
const DYING: Duration = Duration::from_secs(1);
/// How long the last look may have taken.
const LAST_LOOK: Duration = Duration::from_millis(2_500);

/// A time in which something is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    from: Duration,
    to: Duration,
}

impl Window {
    /// Those between two marks; one that does not end lasts for ever.
    fn of(marks: &[(Duration, Mark)], begin: &Mark, end: &Mark) -> Vec<Self> {
        let (mut windows, mut open) = (Vec::new(), None);
        for (at, mark) in marks {
            if mark == begin {
                open.get_or_insert(*at);
            } else if mark == end
                && let Some(from) = open.take()
            {
                windows.push(Self { from, to: *at });
            }
        }
        windows.extend(open.map(|from| Self { from, to: Duration::MAX }));
        windows
    }

    fn overlaps(self, look: Self) -> bool {
        look.from <= self.to && look.to >= self.from
    }

    fn contains(self, look: Self) -> bool {
        look.from >= self.from && look.to <= self.to
    }
}

/// A look at a process, from its question to the next one at the latest.
#[derive(Clone, Copy, Debug)]
struct Look {
    during: Window,
    live: Option<u16>,
    ready: Option<u16>,
}

/// What the processes said against what was away.
pub fn check(marks: &[(Duration, Mark)], sights: &BTreeMap<&'static str, Vec<Sight>>) -> Findings {
    let mut found = Findings::default();
    let (mut dead, mut ready, mut late, mut unready) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let database = away(marks, Service::Postgres);
    let others: Vec<Window> = Service::ALL
        .into_iter()
        .filter(|service| *service != Service::Postgres)
        .flat_map(|service| away(marks, service))
        .collect();
    let shadow: Vec<Window> = database.iter().map(|away| shadow(marks, *away)).collect();
    for (&name, sights) in sights {
        let looks = looks(marks, name, sights);
        let told = |look: &Look| format!("{name} at {:.1} s", look.during.from.as_secs_f64());
        let wrong = |said: fn(&Look) -> Option<u16>, among: &dyn Fn(&Look) -> bool| {
            not_ok(&looks, said, among).into_iter().map(told).collect::<Vec<_>>()
        };
        dead.extend(wrong(|look| look.live, &|_| true));
        for away in &database {
            ready.extend(ready_without(&looks, *away).into_iter().map(told));
        }
        let is_shadowed = |look: &Look| shadow.iter().any(|window| window.overlaps(look.during));
        let begun = |look: &Look| shadow.iter().any(|window| window.to <= look.during.from);
        late.extend(wrong(|look| look.ready, &|look| begun(look) && !is_shadowed(look)));
        let other = |look: &Look| others.iter().any(|window| window.contains(look.during));
        unready.extend(wrong(|look| look.ready, &|look| other(look) && !is_shadowed(look)));
    }
    if sights.is_empty() || sights.values().any(Vec::is_empty) {
        found.blame("I9: processes were not looked at", ["none"]);
    }
    found.blame("I9: processes were not alive", dead);
    found.blame("I9: processes were ready without their database", ready);
    found.blame("I9: processes were not ready 10 s after the return of their database", late);
    found.blame("I9: processes were not ready although only a broker was away", unready);
    found
}

fn away(marks: &[(Duration, Mark)], service: Service) -> Vec<Window> {
    Window::of(marks, &Mark::Away(service), &Mark::Back(service))
}

/// With the time that a process may take to see the return. Whoever gives a service back marks that before,
/// and makes the next mark once it has.
fn shadow(marks: &[(Duration, Mark)], away: Window) -> Window {
    let next = marks.iter().map(|(at, _)| *at).find(|at| *at > away.to);
    let given = next.filter(|at| at.saturating_sub(away.to) < STARTING).unwrap_or(away.to);
    Window { to: given.saturating_add(READY_WITHIN), ..away }
}

/// The looks at a process while it could answer.
fn looks(marks: &[(Duration, Mark)], name: &'static str, sights: &[Sight]) -> Vec<Look> {
    let down: Vec<Window> = Window::of(marks, &Mark::Down(name), &Mark::Up(name))
        .into_iter()
        .map(|down| Window { from: down.from.saturating_sub(DYING), ..down })
        .collect();
    let ends = sights.iter().skip(1).map(|next| Some(next.at)).chain([None]);
    let looks = sights.iter().zip(ends).map(|(sight, end)| Look {
        during: Window { from: sight.at, to: end.unwrap_or(sight.at + LAST_LOOK) },
        live: sight.live,
        ready: sight.ready,
    });
    looks.filter(|look| !down.iter().any(|window| window.overlaps(look.during))).collect()
}

/// The looks whose answer should be 200 and is not. One without any answer counts if the one before had none
/// either: a busy machine may be late once, and an orchestrator asks again before it acts.
fn not_ok<'a>(
    looks: &'a [Look],
    said: fn(&Look) -> Option<u16>,
    among: &dyn Fn(&Look) -> bool,
) -> Vec<&'a Look> {
    let (mut wrong, mut silent) = (Vec::new(), false);
    for look in looks {
        if !among(look) {
            silent = false;
            continue;
        }
        let answer = said(look);
        if answer.is_some_and(|status| status != 200) || (answer.is_none() && silent) {
            wrong.push(look);
        }
        silent = answer.is_none();
    }
    wrong
}

/// The looks that found a process ready although it should know that the database is away.
fn ready_without(looks: &[Look], away: Window) -> Vec<&Look> {
    let judged = Window { from: away.from + UNREADY_WITHIN, ..away };
    let inside: Vec<&Look> = looks.iter().filter(|look| judged.contains(look.during)).collect();
    let is_ready = |look: &&Look| look.ready == Some(200);
    let mut wrong: Vec<&Look> = inside.into_iter().filter(is_ready).collect();
    // A process that knew of the loss has seen it come back.
    let last_unready = looks.iter().filter(|look| away.contains(look.during)).rfind(|look| !is_ready(look));
    let returning = Window { from: away.to.saturating_sub(RETURNING), to: away.to };
    if let Some(unready) = last_unready {
        wrong.retain(|look| !(look.during.from > unready.during.from && returning.contains(look.during)));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    /// Looks four times a second for 60 s at a process that says this of its readiness.
    fn seen(ready: impl Fn(f64) -> Option<u16>) -> BTreeMap<&'static str, Vec<Sight>> {
        let looks = (0..240).map(|tick| f64::from(tick) / 4.0);
        let sights = looks.map(|at| Sight { at: secs(at), live: Some(200), ready: ready(at) });
        BTreeMap::from([("api", sights.collect())])
    }

    fn gone(service: Service, from: f64, to: f64) -> Vec<(Duration, Mark)> {
        vec![(secs(from), Mark::Away(service)), (secs(to), Mark::Back(service))]
    }

    /// Not ready between these times.
    fn unready(from: f64, to: f64) -> impl Fn(f64) -> Option<u16> {
        move |at| Some(if (from..to).contains(&at) { 503 } else { 200 })
    }

    fn violations(marks: &[(Duration, Mark)], sights: &BTreeMap<&'static str, Vec<Sight>>) -> Vec<String> {
        check(marks, sights).violations
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn readiness_follows_the_database() {
        let marks = gone(Service::Postgres, 10.0, 30.0);
        for (from, to) in [(10.0, 30.0), (14.9, 39.9), (10.0, 28.0)] {
            assert_eq!(violations(&marks, &seen(unready(from, to))), NONE, "{from} {to}");
        }
        let ready = "I9: processes were ready without their database";
        let late = "I9: processes were not ready 10 s after the return of their database";
        for (from, to, expected) in [
            (16.0, 30.0, format!("{ready}: 4 (api at 15.0 s, api at 15.2 s, api at 15.5 s, …)")),
            (10.0, 26.75, format!("{ready}: 1 (api at 26.8 s)")),
            (10.0, 40.5, format!("{late}: 1 (api at 40.2 s)")),
        ] {
            assert_eq!(violations(&marks, &seen(unready(from, to))), [expected]);
        }
        let never = violations(&marks, &seen(|_| Some(200)));
        assert_eq!(never, [format!("{ready}: 60 (api at 15.0 s, api at 15.2 s, api at 15.5 s, …)")]);
        // Starting it took 4 s.
        let mut slow = marks.clone();
        slow.push((secs(34.0), Mark::Healed));
        assert_eq!(violations(&slow, &seen(unready(10.0, 43.0))), NONE);
        assert_eq!(violations(&slow, &seen(unready(10.0, 44.5))), [format!("{late}: 1 (api at 44.2 s)")]);
        // It blinks.
        let blinks = seen(|at| unready(10.0, if (20.0..20.25).contains(&at) { 0.0 } else { 30.0 })(at));
        assert_eq!(violations(&marks, &blinks), [format!("{ready}: 1 (api at 20.0 s)")]);
    }

    #[test]
    fn no_answer_is_not_ready() {
        let marks = gone(Service::Postgres, 10.0, 30.0);
        let silent = |from: f64, to: f64| move |at| (!(from..to).contains(&at)).then_some(200);
        assert_eq!(violations(&marks, &seen(silent(10.0, 30.0))), NONE);
        assert_eq!(violations(&marks, &seen(silent(10.0, 42.0))).len(), 1);
    }

    #[test]
    fn a_short_loss_need_not_be_seen() {
        assert_eq!(violations(&gone(Service::Postgres, 10.0, 14.0), &seen(|_| Some(200))), NONE);
        assert_eq!(violations(&gone(Service::Postgres, 10.0, 14.0), &seen(unready(10.0, 23.0))), NONE);
        assert_eq!(violations(&gone(Service::Postgres, 10.0, 14.0), &seen(unready(10.0, 25.0))).len(), 1);
    }

    #[test]
    fn a_loss_without_end_is_judged_too() {
        let marks = [(secs(10.0), Mark::Away(Service::Postgres))];
        assert_eq!(violations(&marks, &seen(unready(10.0, 99.0))), NONE);
        assert_eq!(violations(&marks, &seen(|_| Some(200))).len(), 1);
    }

    #[test]
    fn brokers_are_missed_but_not_needed() {
        for service in [Service::Kafka, Service::Rabbitmq, Service::Redis] {
            let marks = gone(service, 10.0, 30.0);
            assert_eq!(violations(&marks, &seen(|_| Some(200))), NONE);
            assert_eq!(
                violations(&marks, &seen(unready(20.0, 20.25))),
                ["I9: processes were not ready although only a broker was away: 1 (api at 20.0 s)"]
            );
            assert_eq!(violations(&marks, &seen(unready(31.0, 33.0))), NONE, "not judged");
        }
        // The database is away meanwhile, and for another 10 s.
        let mut marks = gone(Service::Kafka, 10.0, 50.0);
        marks.extend(gone(Service::Postgres, 20.0, 30.0));
        marks.sort_by_key(|(at, _)| *at);
        assert_eq!(violations(&marks, &seen(unready(20.0, 39.0))), NONE);
        assert_eq!(violations(&marks, &seen(unready(18.0, 39.0))).len(), 1);
        assert_eq!(violations(&marks, &seen(unready(20.0, 42.0))).len(), 2, "late, and only Kafka is away");
    }

    #[test]
    fn a_process_that_is_down_says_nothing() {
        let mut marks = vec![(secs(10.5), Mark::Down("api")), (secs(20.0), Mark::Up("api"))];
        let mut sights = seen(|_| Some(200));
        let silent = |sights: &mut BTreeMap<&'static str, Vec<Sight>>, from: f64, to: f64| {
            for sight in sights.get_mut("api").unwrap() {
                if (secs(from)..secs(to)).contains(&sight.at) {
                    (sight.live, sight.ready) = (None, None);
                }
            }
        };
        silent(&mut sights, 10.0, 20.0);
        assert_eq!(violations(&marks, &sights), NONE, "it died a little before that was seen");
        marks[0].1 = Mark::Down("workers");
        assert_eq!(
            violations(&marks, &sights),
            ["I9: processes were not alive: 39 (api at 10.2 s, api at 10.5 s, api at 10.8 s, …)"],
            "another one did"
        );
    }

    #[test]
    fn alive_is_what_answers_200() {
        let mut sights = seen(|_| Some(200));
        sights.get_mut("api").unwrap()[7].live = None;
        assert_eq!(violations(&[], &sights), NONE, "late once");
        sights.get_mut("api").unwrap()[8].live = None;
        assert_eq!(violations(&[], &sights), ["I9: processes were not alive: 1 (api at 2.0 s)"]);
        let mut sights = seen(|_| Some(200));
        sights.get_mut("api").unwrap()[7].live = Some(503);
        assert_eq!(violations(&[], &sights), ["I9: processes were not alive: 1 (api at 1.8 s)"]);
        assert_eq!(violations(&[], &BTreeMap::new()), ["I9: processes were not looked at: 1 (none)"]);
    }

    #[test]
    fn a_loss_begins_once() {
        let marks = [
            (secs(1.0), Mark::Away(Service::Redis)),
            (secs(2.0), Mark::Away(Service::Redis)),
            (secs(3.0), Mark::Back(Service::Redis)),
            (secs(4.0), Mark::Back(Service::Redis)),
            (secs(5.0), Mark::Away(Service::Redis)),
        ];
        let windows = away(&marks, Service::Redis);
        let window = |from, to| Window { from: secs(from), to };
        assert_eq!(windows, [window(1.0, secs(3.0)), window(5.0, Duration::MAX)]);
    }
}
