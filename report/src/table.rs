//! A table as plain data, and the forms in which it leaves the program.

use serde_json::{Map, Value};

/// Rows under named columns. A missing figure is `null`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One cell for each column.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// Position of a column, if there is one of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// The cell of a row under a column; nothing where the column is absent or the cell null.
    #[must_use]
    pub fn cell(&self, row: usize, column: &str) -> Option<&Value> {
        self.rows.get(row)?.get(self.column(column)?).filter(|value| !value.is_null())
    }

    /// The number of a row under a column.
    #[must_use]
    pub fn number(&self, row: usize, column: &str) -> Option<f64> {
        self.cell(row, column)?.as_f64()
    }

    /// The text of a row under a column.
    #[must_use]
    pub fn text(&self, row: usize, column: &str) -> Option<&str> {
        self.cell(row, column)?.as_str()
    }

    /// The rows as objects, every column in each.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let object = |row: &Vec<Value>| -> Map<String, Value> { self.columns.iter().cloned().zip(row.iter().cloned()).collect() };
        Value::Array(self.rows.iter().map(|row| Value::Object(object(row))).collect())
    }

    /// Comma-separated values with a header (RFC 4180, lines end with a line feed); null is an empty cell.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        csv_line(&mut text, self.columns.iter().map(String::as_str));
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(plain).collect();
            csv_line(&mut text, cells.iter().map(String::as_str));
        }
        text
    }

    /// Which columns hold numbers, and so stand to the right.
    #[must_use]
    pub fn numeric(&self) -> Vec<bool> {
        let is_numeric = |at: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(at)).filter(|value| !value.is_null()).peekable();
            cells.peek().is_some() && cells.all(Value::is_number)
        };
        (0..self.columns.len()).map(is_numeric).collect()
    }
}

fn csv_line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(cell);
        }
    }
    text.push('\n');
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn table() -> Table {
        let rows = vec![vec![json!("a,b"), json!(0.5), Value::Null], vec![json!("say \"x\"\n|"), json!(3), json!([1, 2])]];
        Table { columns: ["name", "x", "more"].map(str::to_owned).to_vec(), rows }
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        assert_eq!(table().to_csv(), "name,x,more\n\"a,b\",0.5,\n\"say \"\"x\"\"\n|\",3,\"[1,2]\"\n");
    }

    #[test]
    fn json_keeps_order_and_nulls() {
        assert_eq!(table().to_json().to_string(), r#"[{"name":"a,b","x":0.5,"more":null},{"name":"say \"x\"\n|","x":3,"more":[1,2]}]"#);
    }

    #[test]
    fn columns_of_numbers_are_known() {
        assert_eq!(table().numeric(), [false, true, false]);
    }
}
