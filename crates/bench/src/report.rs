//! What a run says at its end: a table of the figures, and one of what is to be reached.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    figure::Unit,
    history::{Change, Over},
    machine::Surroundings,
    run::Sample,
    stats::{median, spread},
    targets::{Figures, TARGETS, Target},
};

/// A change of less than this many percent is not shown.
const SMALL: f64 = 2.0;

/// Every figure over the rounds, by `row.figure`.
pub fn figures(samples: &[Sample]) -> BTreeMap<String, Over> {
    let mut values: BTreeMap<String, (Vec<f64>, Unit)> = BTreeMap::new();
    for (sample, outcome) in samples.iter().filter_map(|sample| Some((sample, sample.outcome.as_ref().ok()?)))
    {
        for figure in &outcome.figures {
            let key = format!("{}.{}", sample.row, figure.name);
            values.entry(key).or_insert_with(|| (Vec::new(), figure.unit)).0.push(figure.value);
        }
    }
    let over = |(key, (values, unit)): (String, (Vec<f64>, Unit))| {
        let (median, (low, high)) = median(&values).zip(spread(&values))?;
        Some((key, Over { median, low, high, unit }))
    };
    values.into_iter().filter_map(over).collect()
}

/// The figures of each round.
pub fn rounds(samples: &[Sample]) -> Vec<Figures> {
    let mut rounds: BTreeMap<u32, Figures> = BTreeMap::new();
    for sample in samples {
        for figure in sample.outcome.iter().flat_map(|outcome| &outcome.figures) {
            let key = format!("{}.{}", sample.row, figure.name);
            rounds.entry(sample.round).or_default().insert(key, figure.value);
        }
    }
    rounds.into_values().collect()
}

/// The table of the figures, rows in the order they were asked for; with how each has changed since it was last recorded.
pub fn table(order: &[&str], figures: &BTreeMap<String, Over>, last: &BTreeMap<String, Over>) -> String {
    let mut text = "| row | figure | median | min – max | since last |\n|---|---|--:|--:|--:|\n".to_owned();
    for row in order {
        for (key, over) in figures.iter().filter(|(key, _)| key.split('.').next() == Some(*row)) {
            let name = key.split_once('.').map_or("", |(_, name)| name);
            let [median, low, high] = [over.median, over.low, over.high].map(|value| over.unit.show(value));
            let change = last.get(key).and_then(|old| Change::between(*old, *over));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {row} | {name} | {median} | {low} – {high} | {} |", changed(change));
        }
    }
    text
}

fn changed(change: Option<Change>) -> String {
    match change {
        Some(Change { percent, slid: true }) => format!("{percent:+.0} % SLID"),
        Some(Change { percent, .. }) if percent.abs() >= SMALL => format!("{percent:+.0} %"),
        Some(_) => "=".to_owned(),
        None => String::new(),
    }
}

/// The table of what is to be reached; what no row is about is left out.
pub fn reached(rounds: &[Figures]) -> String {
    let mut text = "| to reach | measured | target | |\n|---|--:|--:|---|\n".to_owned();
    for target in TARGETS {
        if let Some(line) = line(target, rounds) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

fn line(target: &Target, rounds: &[Figures]) -> Option<String> {
    let reached = target.reached(rounds)?;
    let (mut measured, mut wanted) = (target.value.show(reached.value), target.goal.show());
    if let Some(((or, goal), other)) = target.or.zip(reached.other) {
        measured = format!("{measured} or {}", or.show(other));
        wanted = format!("{wanted} or {}", goal.show());
    }
    let met = if reached.met { "met" } else { "short" };
    Some(format!("| {} | {measured} | {wanted} | {met} |", target.what))
}

/// What else the machine was doing; a warning when that was worth mentioning.
pub fn surroundings(samples: &[Sample]) -> String {
    let busy: Vec<&Sample> = samples.iter().filter(|sample| !sample.surroundings.is_quiet()).collect();
    let worst = |of: fn(&Surroundings) -> f64| {
        samples.iter().map(|sample| of(&sample.surroundings)).fold(0.0, f64::max)
    };
    let mut text = format!(
        "The machine: at most load {:.1}, steal {:.1} %, others {:.0} % of a core.\n",
        worst(|it| it.load),
        worst(|it| it.steal),
        worst(|it| it.others)
    );
    if !busy.is_empty() {
        let _ = writeln!(
            text,
            "WARNING: it was not quiet during {} of {} measurements; compare nothing but ratios, and those with care:",
            busy.len(),
            samples.len()
        );
        for sample in busy {
            let _ = writeln!(text, "  round {}, {}: {}", sample.round, sample.row, sample.surroundings);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Outcome;

    fn sample(round: u32, row: &'static str, rate: Result<f64, &str>) -> Sample {
        let outcome = rate.map(|rate| Outcome::default().with("per_second", rate, Unit::PerSecond));
        let surroundings = Surroundings::default();
        Sample { round, row, outcome: outcome.map_err(str::to_owned), surroundings }
    }

    fn samples() -> Vec<Sample> {
        vec![
            sample(1, "floor", Ok(1_000.0)),
            sample(1, "full-movers", Ok(650.0)),
            sample(2, "full-movers", Ok(550.0)),
            sample(2, "floor", Ok(1_100.0)),
            sample(3, "floor", Err("no luck")),
        ]
    }

    #[test]
    fn the_table_has_medians_spreads_and_changes() {
        let figures = figures(&samples());
        let old = Over { median: 2_000.0, low: 1_900.0, high: 2_100.0, unit: Unit::PerSecond };
        let last = [("floor.per_second".to_owned(), old)].into();
        let table = table(&["full-movers", "floor"], &figures, &last);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines[0], "| full-movers | per_second | 600/s | 550/s – 650/s |  |");
        assert_eq!(lines[1], "| floor | per_second | 1050/s | 1000/s – 1100/s | -48 % SLID |");
    }

    #[test]
    fn a_target_is_met_or_short() {
        let text = reached(&rounds(&samples()));
        // 0.65 and 0.50: the median lies between.
        assert!(text.contains("| full, POST /tasks, of pgbench | 0.57 × | ≥ 0.6 | short |"), "{text}");
        assert!(!text.contains("Express"), "{text}");
    }

    #[test]
    fn a_busy_machine_is_warned_of() {
        let mut samples = samples();
        assert!(!surroundings(&samples).contains("WARNING"));
        samples[1].surroundings.others = 95.0;
        let text = surroundings(&samples);
        assert!(text.contains("during 1 of 5") && text.contains("round 1, full-movers: load 0.0"), "{text}");
    }
}
