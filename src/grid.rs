//! Tables with aligned columns.

use anstyle::Style;

use crate::printer::{BOLD, PLAIN, styled};

/// Rows of styled cells under titles, columns aligned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    titles: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<(String, Style)>>,
}

/// Space between columns.
const GAP: &str = "  ";

impl Grid {
    /// An empty table with these titles.
    pub(crate) fn new(titles: &[&str]) -> Self {
        Self { titles: titles.iter().map(|&title| title.to_owned()).collect(), right: vec![false; titles.len()], rows: Vec::new() }
    }

    /// Sets columns to the right, where figures stand.
    pub(crate) fn right(mut self, right: impl IntoIterator<Item = bool>) -> Self {
        self.right = right.into_iter().collect();
        self
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (String, Style)>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a row without styles.
    pub(crate) fn plain(&mut self, cells: impl IntoIterator<Item = String>) {
        self.row(cells.into_iter().map(|cell| (cell, PLAIN)));
    }

    /// The lines of the table, each ended, `indent` in front.
    pub(crate) fn to_text(&self, indent: &str) -> String {
        self.block(&(0..self.titles.len()).collect::<Vec<_>>(), indent)
    }

    /// The table within a width: what does not fit beside the first column goes into tables below, which repeat it.
    #[cfg(feature = "report")]
    pub(crate) fn fit(&self, width: usize) -> String {
        let widths = self.widths();
        let mut blocks: Vec<Vec<usize>> = Vec::new();
        let mut used = usize::MAX;
        for (column, width_of) in widths.iter().enumerate().skip(1) {
            if used.saturating_add(GAP.len() + width_of) > width {
                blocks.push(vec![0]);
                used = widths[0];
            }
            if let Some(block) = blocks.last_mut() {
                block.push(column);
            }
            used += GAP.len() + width_of;
        }
        if blocks.is_empty() {
            blocks.push((0..self.titles.len()).collect());
        }
        blocks.iter().map(|block| self.block(block, "")).collect::<Vec<_>>().join("\n")
    }

    /// The table in Markdown.
    #[cfg(feature = "report")]
    pub(crate) fn to_markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let rule = |&right: &bool| if right { "---:" } else { "---" }.to_owned();
        let escape = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let head = line(self.titles.iter().map(|title| escape(title)).collect()) + &line(self.right.iter().map(rule).collect());
        self.rows.iter().fold(head, |text, row| text + &line(row.iter().map(|(cell, _)| escape(cell)).collect()))
    }

    fn block(&self, columns: &[usize], indent: &str) -> String {
        let widths = self.widths();
        let mut text = String::new();
        if self.titles.iter().any(|title| !title.is_empty()) {
            self.line(&mut text, columns, &widths, indent, |column| (self.titles[column].as_str(), BOLD));
        }
        for row in &self.rows {
            self.line(&mut text, columns, &widths, indent, |column| {
                row.get(column).map_or(("", PLAIN), |(cell, style)| (cell.as_str(), *style))
            });
        }
        text
    }

    fn line<'a>(&self, text: &mut String, columns: &[usize], widths: &[usize], indent: &str, cell: impl Fn(usize) -> (&'a str, Style)) {
        let last = columns.iter().rposition(|&column| !cell(column).0.is_empty()).map_or(0, |at| at + 1);
        text.push_str(indent);
        for (at, &column) in columns.iter().take(last).enumerate() {
            let (cell, style) = cell(column);
            let blank = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let right = self.right.get(column) == Some(&true);
            if at > 0 {
                text.push_str(GAP);
            }
            if right {
                text.push_str(&blank);
            }
            text.push_str(&styled(style, cell));
            if !right && at + 1 < last {
                text.push_str(&blank);
            }
        }
        text.push('\n');
    }

    fn widths(&self) -> Vec<usize> {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column)).map(|(cell, _)| cell.chars().count());
        self.titles.iter().enumerate().map(|(column, title)| cells(column).chain([title.chars().count()]).max().unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&["NAME", "X", "MORE"]).right([false, true, false]);
        grid.plain(["a".to_owned(), "1".to_owned(), "long text".to_owned()]);
        grid.plain(["longer".to_owned(), "100".to_owned(), String::new()]);
        grid
    }

    fn bare(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        assert_eq!(bare(&grid().to_text(" ")), " NAME      X  MORE\n a         1  long text\n longer  100\n");
    }

    #[cfg(feature = "report")]
    #[test]
    fn what_does_not_fit_goes_below() {
        assert_eq!(bare(&grid().fit(12)), "NAME      X\na         1\nlonger  100\n\nNAME    MORE\na       long text\nlonger\n");
        assert_eq!(bare(&grid().fit(80)), bare(&grid().to_text("")));
    }

    #[cfg(feature = "report")]
    #[test]
    fn markdown_is_aligned_by_its_rule() {
        assert_eq!(grid().to_markdown(), "| NAME | X | MORE |\n| --- | ---: | --- |\n| a | 1 | long text |\n| longer | 100 |  |\n");
    }
}
