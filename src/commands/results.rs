//! `qapipe results`: quality beside cost.

pub(super) use view::{after_run, run};

/// With polars.
#[cfg(feature = "report")]
mod view {
    use std::io::IsTerminal;
    use std::path::Path;

    use qapipe_engine::{ArtifactType, Engine, Outcome, StageState};
    use qapipe_report::{Heading, ReportError, Results, Scope, Standings, Table, Unit};
    use serde_json::{Value, json};

    use crate::args::{self, Format};
    use crate::commands::session::Session;
    use crate::failure::{Exit, Failure};
    use crate::grid::Grid;
    use crate::human;
    use crate::kinds::kinds;
    use crate::printer::{JSON_VERSION, PLAIN};
    use crate::project::pipeline_file;

    /// Where the tables are in the store.
    const TABLES: &str = "tables";

    pub(in crate::commands) fn run(args: &args::Results, session: &Session) -> Result<(), Failure> {
        let pipeline = args.pipeline.as_deref().map(named).transpose()?;
        let file = pipeline.as_ref().and_then(|named| named.loaded.as_ref());
        let store = session.store_of(file)?;
        let results = Results::at(&store.root().join(TABLES));
        let scope = Scope { pipelines: pipeline.into_iter().map(|named| named.name).collect(), stages: args.stages.clone(), all: args.all };
        let format = format(args, session);
        let text = match &args.sql {
            Some(sql) => printed(&results.query(sql, &scope)?, format),
            None => standings(&found(&results, &scope)?, format)?,
        };
        match &args.output {
            Some(path) => std::fs::write(path, text).map_err(|error| Failure::io(path, &error)),
            None => session.printer.data(&text),
        }
    }

    /// The evaluations; that a stage which was named has none is an error.
    fn found(results: &Results, scope: &Scope) -> Result<Table, Failure> {
        let metrics = results.metrics(scope)?;
        match scope.stages.as_slice() {
            [stage, ..] if metrics.rows.is_empty() => {
                let failure = Failure::usage(format!("there is no evaluation of a stage `{stage}` here"));
                Err(failure.help("`qapipe results` without a name shows all that there are"))
            }
            _ => Ok(metrics),
        }
    }

    /// After a run that computed something: the evaluations of the pipeline, if it has any.
    pub(in crate::commands) fn after_run(engine: &Engine, outcome: &Outcome, session: &Session) -> Result<(), Failure> {
        let pipeline = engine.pipeline();
        let evaluates = |name: &str| {
            let stage = pipeline.stage(name);
            stage.is_some_and(|stage| stage.outputs.iter().any(|output| output.artifact == ArtifactType::METRICS))
        };
        let ran = outcome.stages.iter().any(|stage| matches!(stage.state, StageState::Ran | StageState::Fetched));
        let has_some = outcome.stages.iter().any(|stage| stage.brief.is_some() && evaluates(&stage.stage));
        if session.printer.quiet || !ran || !has_some {
            return Ok(());
        }
        let scope = Scope { pipelines: vec![pipeline.name.clone()], ..Scope::default() };
        let metrics = Results::at(&engine.store().root().join(TABLES)).metrics(&scope)?;
        if metrics.rows.is_empty() {
            return Ok(());
        }
        session.printer.note("");
        session.printer.data(&standings(&metrics, Format::Table)?)
    }

    /// A pipeline by its file or by its name.
    struct Named {
        name: String,
        loaded: Option<qapipe_engine::Pipeline>,
    }

    fn named(given: &Path) -> Result<Named, Failure> {
        let file = pipeline_file(Some(given));
        if !file.is_file() && !given.to_string_lossy().contains(['.', '/']) {
            return Ok(Named { name: given.to_string_lossy().into_owned(), loaded: None });
        }
        let loaded = qapipe_engine::Pipeline::load(&file, &kinds(), &[])?;
        Ok(Named { name: loaded.name.clone(), loaded: Some(loaded) })
    }

    /// What was asked for, or else what the ending of the output file says.
    fn format(args: &args::Results, session: &Session) -> Format {
        let ending = args.output.as_deref().and_then(Path::extension).and_then(|ending| ending.to_str());
        match (args.format, ending) {
            (Some(format), _) => format,
            (None, _) if session.printer.json => Format::Json,
            (None, Some("csv")) => Format::Csv,
            (None, Some("json")) => Format::Json,
            (None, Some("md")) => Format::Markdown,
            _ => Format::Table,
        }
    }

    fn standings(metrics: &Table, format: Format) -> Result<String, Failure> {
        match format {
            Format::Csv | Format::Json => return Ok(printed(metrics, format)),
            Format::Table | Format::Markdown if metrics.rows.is_empty() => {
                return Err(Failure::usage("there are no evaluations here yet").help("run a pipeline with a stage of kind `evaluate`"));
            }
            Format::Table | Format::Markdown => {}
        }
        let standings = Standings::of(metrics);
        let titles: Vec<&str> = standings.headings.iter().map(|heading| heading.title).collect();
        let mut grid = Grid::new(&titles).right(standings.headings.iter().map(|heading| heading.unit != Unit::Text));
        for row in &standings.rows {
            grid.row(standings.headings.iter().zip(row).map(|(heading, value)| (figure(heading, value), PLAIN)));
        }
        Ok(laid_out(&grid, format))
    }

    /// A table as it is, all columns.
    fn printed(table: &Table, format: Format) -> String {
        match format {
            Format::Csv => table.to_csv(),
            Format::Json => format!("{:#}\n", json!({ "version": JSON_VERSION, "rows": table.to_json() })),
            Format::Table | Format::Markdown => {
                let titles: Vec<&str> = table.columns.iter().map(String::as_str).collect();
                let mut grid = Grid::new(&titles).right(table.numeric());
                table.rows.iter().for_each(|row| grid.plain(row.iter().map(cell)));
                laid_out(&grid, format)
            }
        }
    }

    fn laid_out(grid: &Grid, format: Format) -> String {
        if format == Format::Markdown {
            return grid.to_markdown();
        }
        let width = if std::io::stdout().is_terminal() { human::terminal_width() } else { None };
        width.map_or_else(|| grid.to_text(""), |width| grid.fit(width))
    }

    fn figure(heading: &Heading, value: &Value) -> String {
        let Some(number) = value.as_f64() else { return cell(value) };
        match heading.unit {
            Unit::Text => cell(value),
            Unit::Percent => format!("{number:.2}"),
            Unit::Count => human::count(number),
            Unit::Bytes => human::bytes(number),
            Unit::Seconds => human::seconds(number),
            Unit::Milliseconds => format!("{} ms", human::three(number)),
            Unit::Rate => format!("{}/s", human::three(number)),
        }
    }

    fn cell(value: &Value) -> String {
        match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(|| number.to_string(), human::plain),
            other => other.to_string(),
        }
    }

    impl From<ReportError> for Failure {
        fn from(error: ReportError) -> Self {
            let exit = if error.is_query() { Exit::Usage } else { Exit::Environment };
            let failure = Self::new(exit, error.to_string());
            if error.is_query() { failure.help(format!("tables: {}", qapipe_report::TABLES.join(", "))) } else { failure }
        }
    }
}

/// Without polars.
#[cfg(not(feature = "report"))]
mod view {
    use qapipe_engine::{Engine, Outcome};

    use crate::args;
    use crate::commands::session::Session;
    use crate::failure::{Exit, Failure};

    pub(in crate::commands) fn run(_: &args::Results, _: &Session) -> Result<(), Failure> {
        let failure = Failure::new(Exit::Environment, "this qapipe was built without the feature `report`, which prints tables");
        Err(failure.help("build it with `cargo build --features report`; any tool reads the Parquet files in .qapipe/tables"))
    }

    pub(in crate::commands) fn after_run(_: &Engine, _: &Outcome, _: &Session) -> Result<(), Failure> {
        Ok(())
    }
}
