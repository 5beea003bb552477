//! The plots, as SVG.

use std::ops::Range;

use anyhow::Result;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    element::PathElement,
    prelude::{IntoDrawingArea as _, LineSeries, SVGBackend},
    style::{Color as _, RGBColor, WHITE},
};

use super::milliseconds;
use crate::row::Row;

const SIZE: (u32, u32) = (1000, 460);

/// Told apart by people who see colours otherwise, as far as that goes with so many.
const COLORS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 94, 240),
    RGBColor(100, 100, 100),
    RGBColor(220, 38, 127),
    RGBColor(140, 86, 75),
];

const GRID: RGBColor = RGBColor(221, 221, 221);
const FONT: (&str, u32) = ("sans-serif", 16);

/// Lines and what they are drawn on.
struct Plot<'a> {
    lines: Vec<Line<'a>>,
    x: Axis,
    y: Axis,
    names: SeriesLabelPosition,
}

struct Line<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
}

struct Axis {
    range: Range<f64>,
    title: &'static str,
    /// The most labels there may be.
    labels: usize,
    label: fn(&f64) -> String,
}

/// Good answers in each second; none when no row has any.
pub fn over_time(rows: &[&Row]) -> Result<Option<String>> {
    let lines = rows.iter().filter_map(|row| {
        // The last second is seldom a whole one.
        let (_, whole) = row.over_time.split_last()?;
        let points: Vec<_> = (0u32..).zip(whole).map(|(at, count)| (f64::from(at), float(*count))).collect();
        (points.len() > 1).then_some(Line { name: &row.name, points })
    });
    let lines: Vec<Line<'_>> = lines.collect();
    let most =
        |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| &line.points).map(of).fold(1.0, f64::max);
    let (seconds, count) = (most(|point| point.0), most(|point| point.1) * 1.05);
    let label = |value: &f64| trimmed(*value);
    let x = Axis { range: 0.0..seconds, title: "seconds", labels: 10, label };
    let y = Axis { range: 0.0..count, title: "good answers in a second", labels: 8, label };
    draw(&Plot { lines, x, y, names: SeriesLabelPosition::UpperRight })
}

/// How long so many percent took at most; none when no row has any.
pub fn percentiles(rows: &[&Row]) -> Result<Option<String>> {
    let lines = rows.iter().filter(|row| row.curve.len() > 1).map(|row| {
        let point =
            |(quantile, micros): &(f64, u64)| (nines(*quantile), milliseconds((*micros).max(1)).log10());
        Line { name: &row.name, points: row.curve.iter().map(point).collect() }
    });
    let lines: Vec<Line<'_>> = lines.collect();
    let times = || rows.iter().flat_map(|row| &row.curve).map(|(_, micros)| (*micros).max(1).ilog10());
    let (low, high) = (times().min().unwrap_or(0), times().max().unwrap_or(0) + 1);
    let power = |exponent: u32| f64::from(exponent) - 3.0;
    let y = Axis {
        range: power(low)..power(high),
        title: "milliseconds",
        labels: usize::try_from(high - low + 1)?,
        label: |exponent| trimmed(10f64.powf(*exponent)),
    };
    let label = |nines: &f64| format!("{} %", trimmed(100.0 - 100.0 * 10f64.powf(-nines)));
    let x = Axis { range: 0.0..4.0, title: "so many of the answers", labels: 5, label };
    draw(&Plot { lines, x, y, names: SeriesLabelPosition::UpperLeft })
}

/// 0.9 is one, 0.99 is two.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// Up to three digits after the point, without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn draw(plot: &Plot<'_>) -> Result<Option<String>> {
    if plot.lines.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&area);
        builder.margin(12).x_label_area_size(50).y_label_area_size(85);
        let mut chart = builder.build_cartesian_2d(plot.x.range.clone(), plot.y.range.clone())?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(plot.x.title).x_labels(plot.x.labels).x_label_formatter(&plot.x.label);
        mesh.y_desc(plot.y.title).y_labels(plot.y.labels).y_label_formatter(&plot.y.label);
        mesh.label_style(FONT).axis_desc_style(FONT);
        mesh.bold_line_style(GRID).light_line_style(WHITE).draw()?;
        for (line, color) in plot.lines.iter().zip(COLORS.iter().cycle()) {
            let style = color.stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
        }
        let mut names = chart.configure_series_labels();
        names.label_font(FONT).position(plot.names.clone());
        names.background_style(WHITE.mix(0.85)).border_style(GRID).draw()?;
        area.present()?;
    }
    Ok(Some(svg))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::row::Loop;

    #[test]
    fn every_row_that_was_measured_has_a_line_with_its_name() {
        let rows = sample();
        let rows: Vec<&Row> = rows.iter().collect();
        for plot in [over_time(&rows), percentiles(&rows)] {
            let svg = plot.unwrap().unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("burst") && svg.contains("arrival, as sent"));
            assert!(!svg.contains("webhooks") && !svg.contains("NaN"));
        }
    }

    #[test]
    fn percentiles_stand_at_their_nines() {
        for (quantile, expected) in [(0.0, 0.0), (0.9, 1.0), (0.99, 2.0), (0.999, 3.0)] {
            assert!((nines(quantile) - expected).abs() < 1e-9, "{quantile}");
        }
        let rows = sample();
        let svg = percentiles(&rows.iter().collect::<Vec<_>>()).unwrap().unwrap();
        for label in ["90 %", "99 %", "99.9 %", "milliseconds"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }

    #[test]
    fn numbers_lose_the_zeros_at_their_end() {
        assert_eq!((trimmed(10.0), trimmed(0.1), trimmed(99.9)), ("10".into(), "0.1".into(), "99.9".into()));
    }

    #[test]
    fn nothing_is_plotted_where_nothing_was_measured() {
        let row = Row::failed("burst", Loop::Closed, "no account");
        assert!(over_time(&[&row]).unwrap().is_none());
        assert!(percentiles(&[&row]).unwrap().is_none());
    }
}
