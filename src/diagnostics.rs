//! Errors in what the user wrote, with the lines and a caret.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, ThemeCharacters, ThemeStyles};
use qapipe_engine::{Diagnostic, Diagnostics};
use serde_json::{Value, json};

use crate::human::things;
use crate::printer::Printer;

/// All errors, one below the other, with their number at the end if there are several.
pub(crate) fn render(errors: &Diagnostics, printer: &Printer) -> String {
    let styles = if printer.colours_errors() { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let theme = GraphicalTheme { characters: ThemeCharacters::unicode(), styles };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false).with_context_lines(1);
    let mut text = errors.0.iter().map(|error| one(error, &handler)).collect::<Vec<_>>().join("\n");
    if errors.0.len() > 1 {
        text.push_str(&format!("\n{} in all", things(errors.0.len(), "error")));
    }
    text
}

fn one(error: &Diagnostic, handler: &GraphicalReportHandler) -> String {
    let span = error.span.start.min(error.source.len())..error.span.end.min(error.source.len());
    let label = if error.label.is_empty() { LabeledSpan::underline(span) } else { LabeledSpan::at(span, error.label.clone()) };
    let mut diagnostic = MietteDiagnostic::new(error.message.clone()).with_label(label);
    diagnostic.help.clone_from(&error.help);
    let name = error.file.display().to_string();
    let report = Report::new(diagnostic).with_source_code(NamedSource::new(name, error.source.to_string()));
    let mut text = String::new();
    match handler.render_report(&mut text, report.as_ref()) {
        Ok(()) => text,
        Err(_) => format!("{error}\n"),
    }
}

/// All errors as JSON, with line and column from 1.
pub(crate) fn to_json(errors: &Diagnostics) -> Vec<Value> {
    let one = |error: &Diagnostic| {
        let (line, column) = error.position();
        json!({
            "file": error.file, "line": line, "column": column,
            "message": error.message, "label": error.label, "help": error.help,
        })
    };
    errors.0.iter().map(one).collect()
}
