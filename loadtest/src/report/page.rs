//! The page for people: the table and the plots, with nothing loaded from elsewhere.

use anyhow::Result;

use super::{millis, plots, remarks, statuses};
use crate::row::{Loop, Row};

/// Rows that post single tasks: the same work in both loops.
const SAME_WORK: [&str; 5] = ["burst", "oha-closed", "oha-open", "arrival", "arrival, as sent"];

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222; \
background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { padding: .25em .6em; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums }
th:first-child, td:first-child, .word { text-align: left }
.failed td:first-child { color: #b00020; font-weight: 600 }
.remark { color: #666; font-size: 90% }
svg { width: 100%; height: auto }
";

const OVER_TIME: &str = "Good answers in each second. A dip is a stall; a slope is a server that slows down.";
const PERCENTILES: &str = "How long the fastest so many percent took. Both axes are logarithmic: each step to the right \
                           has a tenth of the answers beyond it.";
const LOOPS: &str = "A closed loop waits for an answer before it asks again, so while the server stalls it asks less and \
                     hardly notices. In an open loop requests are due at a constant rate, and a stall costs all that were \
                     due meanwhile. Where “arrival” rises above “arrival, as sent”, requests waited for a free connection: \
                     their users waited too, but a closed loop would not have counted it.";

/// The page.
pub fn page(about: &str, reports: &[String], rows: &[Row]) -> Result<String> {
    let all: Vec<&Row> = rows.iter().collect();
    let same: Vec<&Row> = rows.iter().filter(|row| SAME_WORK.contains(&row.name.as_str())).collect();
    let (has_closed, has_open) =
        (same.iter().any(|row| row.kind == Loop::Closed), same.iter().any(|row| row.kind == Loop::Open));
    let mut body = format!("<h1>Load test</h1>\n<p>{}</p>\n{}", escape(about), table(rows));
    if !reports.is_empty() {
        let link = |name: &String| format!("<a href=\"{0}\">{0}</a>", escape(name));
        let links: Vec<String> = reports.iter().map(link).collect();
        body += &["<p>Goose's own reports: ", &links.join(", "), "</p>\n"].concat();
    }
    body += &section("Requests in a second", OVER_TIME, plots::over_time(&all)?);
    body += &section("Times", PERCENTILES, plots::percentiles(&all)?);
    if has_closed && has_open {
        body += &section("Closed loop beside open loop", LOOPS, plots::percentiles(&same)?);
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Load test</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    ))
}

/// A plot with its explanation; nothing where there is nothing to plot.
fn section(title: &str, what: &str, plot: Option<String>) -> String {
    plot.map_or_else(String::new, |plot| format!("<h2>{title}</h2>\n<p>{what}</p>\n{plot}\n"))
}

fn table(rows: &[Row]) -> String {
    let lines: String = rows.iter().map(line).collect();
    format!(
        "<table>\n<tr><th>scenario</th><th class=\"word\">loop</th><th>requests</th><th>good/s</th><th>p50 ms</th>\
         <th>p90</th><th>p99</th><th>p99.9</th><th>slowest</th><th class=\"word\">statuses</th></tr>\n{lines}</table>\n"
    )
}

fn line(row: &Row) -> String {
    let class = if row.is_fine() { "" } else { " class=\"failed\"" };
    let kind = match row.kind {
        Loop::Closed => "closed",
        Loop::Open => "open",
    };
    let times: String = row.latency.map_or_else(
        || "<td></td>".repeat(5),
        |it| {
            [it.p50, it.p90, it.p99, it.p999, it.max]
                .map(|time| format!("<td>{}</td>", millis(time)))
                .concat()
        },
    );
    let mut text = format!(
        "<tr{class}><td>{}</td><td class=\"word\">{kind}</td><td>{}</td><td>{}</td>{times}<td class=\"word\">{}</td></tr>\n",
        escape(&row.name),
        row.requests,
        row.per_second,
        escape(&statuses(row)),
    );
    for remark in remarks(row) {
        text += &["<tr class=\"remark\"><td colspan=\"10\">", &escape(&remark), "</td></tr>\n"].concat();
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_page_has_a_table_and_three_plots_and_loads_nothing() {
        let page = page("http://127.0.0.1:3000", &["goose-burst.html".to_owned()], &sample()).unwrap();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("Closed loop beside open loop"));
        assert!(page.contains("<tr class=\"failed\"><td>webhooks</td>"));
        for foreign in ["<script", "src=", "@import", "href=\"http"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_the_run_says_is_text_and_never_markup() {
        let page = page("<b>", &[], &sample()).unwrap();
        assert!(page.contains("no &lt;receiver&gt; &amp; no luck") && page.contains("&lt;b&gt;"));
        assert!(!page.contains("<receiver>"));
    }

    #[test]
    fn without_an_open_loop_nothing_stands_beside_the_closed_one() {
        let page = page("", &[], &sample()[..2]).unwrap();
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(!page.contains("beside"));
    }

    #[test]
    fn a_run_that_measured_nothing_has_a_page_without_plots() {
        let rows = [Row::failed("burst", Loop::Closed, "no account")];
        assert!(!page("", &[], &rows).unwrap().contains("<svg"));
    }
}
