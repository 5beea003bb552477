//! Tables for people.

use std::fmt::Write as _;

/// Columns as wide as their widest cell, with two spaces between them.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&widths, head.iter().copied());
    for row in rows {
        text += &line(&widths, row.iter().map(String::as_str));
    }
    text
}

fn line<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (width, cell) in widths.iter().zip(cells) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{cell:width$}  ");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["1", "größer", ""], ["20", "b", "c"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["N", "NAME", "NOTE"], &rows), "N   NAME    NOTE\n1   größer\n20  b       c\n");
    }
}
