//! The table for the terminal.

use crate::row::{Loop, Row};

const HEAD: [&str; 9] =
    ["scenario", "loop", "requests", "good/s", "p50 ms", "p90", "p99", "p99.9", "statuses"];

/// Every row, and below it what must not be and what else is to be told.
pub fn table(rows: &[Row]) -> String {
    let cells: Vec<[String; 9]> = rows.iter().map(cells).collect();
    let width = |column: usize| {
        let widths = cells.iter().map(|cells| cells.get(column).map_or(0, |cell| cell.chars().count()));
        widths.chain(HEAD.get(column).map(|head| head.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut lines = vec![line(&HEAD.map(str::to_owned), &widths)];
    for (row, cells) in rows.iter().zip(&cells) {
        lines.push(line(cells, &widths));
        lines.extend(super::remarks(row).into_iter().map(|remark| format!("  {remark}\n")));
        match row.problem_count() {
            0 if row.is_fine() => {}
            0 => lines.push("  FAILED: nothing was measured\n".to_owned()),
            count => lines.push(format!("  FAILED: {count} problems\n")),
        }
    }
    lines.concat()
}

fn cells(row: &Row) -> [String; 9] {
    let kind = match row.kind {
        Loop::Closed => "closed",
        Loop::Open => "open",
    };
    let times = row.latency.map_or([const { String::new() }; 4], |latency| {
        [latency.p50, latency.p90, latency.p99, latency.p999].map(super::millis)
    });
    let [p50, p90, p99, p999] = times;
    let (requests, rate) = (row.requests.to_string(), row.per_second.to_string());
    [row.name.clone(), kind.to_owned(), requests, rate, p50, p90, p99, p999, super::statuses(row)]
}

/// Words are on the left of their columns, numbers on the right.
fn line(cells: &[String; 9], widths: &[usize]) -> String {
    let word = |column: usize| column < 2 || column == 8;
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        if word(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn every_row_has_its_numbers_and_its_problems() {
        let text = table(&sample());
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("scenario          loop    requests  good/s"), "{text}");
        let burst = lines.next().unwrap();
        assert!(burst.starts_with("burst             closed      3001"), "{text}");
        assert!(burst.ends_with("201 × 3000, 429 × 1"), "{text}");
        let last: Vec<&str> = text.lines().rev().take(4).collect();
        assert_eq!(last[0], "  FAILED: 1 problems");
        assert_eq!(last[1], "  run it again");
        assert_eq!(last[2], "  1 × no <receiver> & no luck");
        assert!(last[3].starts_with("webhooks"), "{text}");
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let text = table(&sample());
        let at = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        let (head, row) = (text.lines().next().unwrap(), text.lines().nth(1).unwrap());
        assert_eq!(at(head, "requests"), at(row, "3001"));
    }
}
