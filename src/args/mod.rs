//! What the user may write on the command line. Parsing does no IO.

mod work;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::kinds::KindName;
use crate::quantity;
pub(crate) use work::{Changes, Executor, Machine, Run, Work};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER: &str = "\
A pipeline is a TOML file that describes stages and what flows between them. qapipe runs only what an edit \
changed, and keeps every result under the hash of what it is made from.

Examples:
  qapipe init squad && cd squad    start a project that runs as it is
  qapipe run                       bring all results of pipeline.toml up to date
  qapipe plan                      see first what would run, and why
  qapipe results                   the table: quality beside cost

Exit codes:
  0 done   1 a stage failed   2 usage or pipeline error   3 plan --check found work
  4 the machine lacks something (libtorch, GPU, disk, network)   5 locked by another run
  70 a bug of qapipe   130 interrupted";

/// Question-answering experiments as cached pipelines: which QA model do I deploy?
#[derive(Debug, Parser)]
#[command(name = "qapipe", version, styles = STYLES, after_help = AFTER, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Folder of results [default: $QAPIPE_STORE, else .qapipe beside the pipeline file]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) store: Option<PathBuf>,
    /// Say nothing but errors; data still comes on standard output
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more: cached stages, the stages' own output
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Machine-readable output with a version field, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colour; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a pipeline's results up to date
    #[command(after_help = "\
Runs only stages whose result is neither in the store nor in the project's remote. One that failed or was interrupted
leaves nothing behind: run again to go on.

Examples:
  qapipe run                                          what pipeline.toml means: its `targets`, or all stages
  qapipe run pipelines/minilm_squad.toml scores       one stage, with what it needs
  qapipe run --set stages.tuned.train.epochs=3 --set vars.squad=/data/squad
  qapipe run --sweep stages.lora.rank=4,8 --sweep seed=1,2
                                                      every combination, as cells of a matrix
  qapipe run pipelines/lora_ranks.toml --where rank=8 only these cells, with what they need
  qapipe run --failed                                 what failed in the last run
  qapipe run --device cuda:0,cuda:1 --keep-going      independent stages side by side, each on a GPU of its own
  qapipe run --force tuned                            again, although its result is there
  qapipe run --executor slurm --dry                   the jobs that would be submitted; `[slurm]` in qapipe.toml
                                                      and `slurm = { … }` in a stage say what they ask for
  qapipe run --json | jq -r 'select(.event == \"finished\").stage'

With --executor slurm every stage that has to run is a job (cells of a matrix an array), submitted once what it reads
is there; the store has to be seen by the nodes. Ctrl-C submits no more and waits, a second one cancels the jobs. A
driver that is killed, or whose terminal is closed, leaves its jobs running: the same command takes them up again.")]
    Run(Run),
    /// Show what a run would do and why; run nothing
    #[command(after_help = "\
Examples:
  qapipe plan                                         the decision for every stage
  qapipe plan --set stages.tuned.train.lr=1e-4        what that change would cost
  qapipe plan -q                                      only the stages that would run
  qapipe plan -v pipelines/lora_ranks.toml            every cell of a large matrix, each in a row
  qapipe plan --check || echo 'results are out of date'")]
    Plan(Plan),
    /// Explain why a stage would run, down to the root cause
    #[command(override_usage = "qapipe why [OPTIONS] [PIPELINE] <STAGE>")]
    #[command(after_help = "\
Examples:
  qapipe why scores                                   a stage of pipeline.toml
  qapipe why pipelines/bert_base.toml tuned
  qapipe why pipelines/lora_ranks.toml 'lora[rank=8,seed=1]'
  qapipe why scores --set stages.tuned.train.lr=1e-4  before you decide")]
    Why(Why),
    /// Check a pipeline: syntax, types, references, files
    #[command(after_help = "\
Examples:
  qapipe check                                        pipeline.toml
  qapipe check pipelines/*.toml                       several at once
  qapipe check --json | jq '.files[].errors'")]
    Check(Check),
    /// List the kinds of stages, or explain one with all of its parameters
    #[command(after_help = "\
Examples:
  qapipe kinds                                        what there is
  qapipe kinds fine-tune                              its parameters, types and defaults
  qapipe kinds --json | jq -r '.kinds[].name'")]
    Kinds(Kinds),
    /// Print the JSON schema of a pipeline file, for editors
    #[command(after_help = "\
Examples:
  qapipe schema > pipeline.schema.json                then begin the pipeline file with
                                                      #:schema ./pipeline.schema.json")]
    Schema,
    /// Print the results: quality beside cost, best first
    #[command(after_help = "\
Examples:
  qapipe results                                      every system whose result is current
  qapipe results -p pipelines/quickstart.toml         of one pipeline
  qapipe results --format csv -o results.csv
  qapipe results --all                                of earlier states of the pipelines too
  qapipe results --sql 'select stage, exact, f1 from metrics order by exact desc'
  qapipe results --sql 'select id, prediction, f1 from predictions where f1 < 0.5 limit 10'
  qapipe results --sql 'select axis_rank, avg(f1) from metrics group by axis_rank'

Tables for --sql: metrics (a row an evaluation), predictions (a question), training (a logged step), stages (a stage of a run).
Each axis of a matrix is a column axis_NAME of the first three; all have them as JSON in the column axes.")]
    Results(Results),
    /// Draw a pipeline's graph
    #[command(after_help = "\
Examples:
  qapipe graph                                        as text; a stage of the matrix once, with its size
  qapipe graph -v                                     every cell
  qapipe graph --dot | dot -Tpdf > graph.pdf
  qapipe graph --mermaid                              for Markdown
  qapipe graph pipelines/bert_base.toml --svg > graph.svg")]
    Graph(Graph),
    /// List past runs, newest first
    #[command(after_help = "\
Examples:
  qapipe log
  qapipe log -n 3 --json")]
    Log(Log),
    /// Show one past run, stage by stage
    #[command(after_help = "\
Examples:
  qapipe show                                         the newest run
  qapipe show 20261123-134502-7f3a                    as `qapipe log` names it; a part of it that is unique will do
  qapipe show --json | jq '.events[] | select(.event == \"failed\")'")]
    Show(Show),
    /// Print what a stage wrote when it last ran
    #[command(after_help = "\
Examples:
  qapipe logs tuned                                   from the newest run in which it ran
  qapipe logs tuned --run 20261123-134502-7f3a")]
    Logs(Logs),
    /// Copy a result out of the store
    #[command(override_usage = "qapipe get [OPTIONS] [PIPELINE] <STAGE[.OUTPUT]>")]
    #[command(after_help = "\
Examples:
  qapipe get tuned -o out                             all outputs of a stage: out/<output>
  qapipe get tuned.model -o out                       one output: out/model
  qapipe get pipelines/lora_ranks.toml 'lora[rank=8,seed=1].model'
  qapipe get pipelines/bert_base.toml scores.predictions")]
    Get(Get),
    /// Say what torch, CUDA and the machine are
    #[command(after_help = "\
Examples:
  qapipe env
  qapipe env --json | jq .worker.torch")]
    Env,
    /// Look after the store
    #[command(after_help = "\
Examples:
  qapipe cache size                                   what the store takes on disk
  qapipe cache ls                                     every result in it
  qapipe cache gc --older-than 30d                    what could be deleted; --delete does
  qapipe cache verify                                 read everything; set aside what is damaged
  qapipe cache verify --repair                        and fetch it again, or forget it
  qapipe cache push                                   send all results to the remote that qapipe.toml names
  qapipe cache pull pipelines/study.toml scores       fetch what a stage and those before it gave

The remote is what `[remote] url` in qapipe.toml (beside the pipeline or above it) or QAPIPE_REMOTE says:
a folder, s3://BUCKET/PREFIX, gs://… or az://…; credentials come from the environment.")]
    Cache(Cache),
    /// Start a project: a commented pipeline that runs as it is on sample data
    #[command(after_help = "\
Examples:
  qapipe init                                         here
  qapipe init squad && cd squad && qapipe run")]
    Init(Init),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  qapipe completions bash > ~/.local/share/bash-completion/completions/qapipe
  qapipe completions zsh > \"${fpath[1]}/_qapipe\"
  qapipe completions fish > ~/.config/fish/completions/qapipe.fish")]
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) work: Work,
    /// Exit with 3 if anything would run
    #[arg(long)]
    pub(crate) check: bool,
    /// Ask no remote
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The stage, after its pipeline file [default: pipeline.toml]
    #[arg(value_name = "STAGE", num_args = 1..=2, required = true)]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Pipeline files, or folders with a pipeline.toml [default: pipeline.toml]
    #[arg(value_name = "PIPELINE", value_hint = ValueHint::FilePath)]
    pub(crate) pipelines: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) changes: Changes,
}

#[derive(Debug, Args)]
pub(crate) struct Kinds {
    /// Explain this kind
    pub(crate) kind: Option<KindName>,
}

#[derive(Debug, Args)]
pub(crate) struct Results {
    /// Only these stages
    #[arg(value_name = "STAGE")]
    pub(crate) stages: Vec<String>,
    /// Only this pipeline: its file or its name
    #[arg(short, long, value_name = "PIPELINE", value_hint = ValueHint::FilePath)]
    pub(crate) pipeline: Option<PathBuf>,
    /// Results of every earlier state of the pipelines too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Ask in SQL instead
    #[arg(long, value_name = "QUERY")]
    pub(crate) sql: Option<String>,
    /// How to print; csv and json have all columns [default: by the ending of --output, else table]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Csv,
    Json,
    Markdown,
}

#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// Pipeline file, or a folder with a pipeline.toml [default: pipeline.toml]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    #[command(flatten)]
    pub(crate) form: GraphForm,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct GraphForm {
    /// In Graphviz's language
    #[arg(long)]
    pub(crate) dot: bool,
    /// In Mermaid's language
    #[arg(long)]
    pub(crate) mermaid: bool,
    /// As an SVG picture
    #[arg(long)]
    pub(crate) svg: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// At most this many runs
    #[arg(short = 'n', long, value_name = "N", default_value = "20")]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The run, or a part of its id that is unique [default: the newest]
    pub(crate) run: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The stage
    pub(crate) stage: String,
    /// From this run instead of the newest in which the stage ran
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The stage or one of its outputs, after the pipeline file [default: pipeline.toml]
    #[arg(value_name = "STAGE[.OUTPUT]", num_args = 1..=2, required = true)]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Folder to copy into
    #[arg(short, long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the results in the store, newest first
    Ls,
    /// Say what the store takes on disk
    Size,
    /// Delete results that nothing cites, and what dead processes left; without --delete, say what would go
    #[command(after_help = "\
Cited are the results that the stages of each pipeline had last, and those that the result tables show. Files that a
cited result shares with another stay. A running qapipe loses nothing: what it uses stays until it ends, and what a
killed one had computed for 14 days.

A result was last used when it was computed or fetched, or when a run or a plan last found it (to within a day).
With --max-size those go first that take the least time to compute again for their size.

Examples:
  qapipe cache gc                                     what nothing cites
  qapipe cache gc --older-than 30d --delete           delete what of that nobody has used for 30 days
  qapipe cache gc --max-size 50GiB                    what it takes to come down to 50 GiB
  qapipe cache gc pipelines/*.toml                    what these pipelines do not cite")]
    Gc(Gc),
    /// Read everything and compare it with its digest; set aside what is damaged, so that the next run computes it again
    Verify(Verify),
    /// Send results to the remote; what is there is not sent again
    Push(Transfer),
    /// Fetch results from the remote; what is here is not fetched again
    Pull(Transfer),
}

/// Which results go.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only these pipelines cite results: their files, or folders with a pipeline.toml [default: all that have used the store]
    #[arg(value_name = "PIPELINE", value_hint = ValueHint::FilePath)]
    pub(crate) pipelines: Vec<PathBuf>,
    /// Only what has not been used for so long: 30d, 12h, 90m
    #[arg(long, value_name = "AGE", value_parser = quantity::age)]
    pub(crate) older_than: Option<Duration>,
    /// Only until all stored files together have this size: 50GiB, 500MB
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) max_size: Option<u64>,
    /// What is cited too, and every kept answer to a single question
    #[arg(long, conflicts_with = "pipelines")]
    pub(crate) all: bool,
    /// Delete it
    #[arg(long)]
    pub(crate) delete: bool,
    /// Exit with 5 instead of waiting while a result is being kept
    #[arg(long, requires = "delete")]
    pub(crate) no_wait: bool,
}

/// What is done about damage.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Fetch damaged results from the remote again, and forget those that it does not have, so that the next run computes them
    #[arg(long)]
    pub(crate) repair: bool,
    /// Ask no remote
    #[arg(long, requires = "repair")]
    pub(crate) offline: bool,
}

/// Which results go to the remote or come from it.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// Only results of this pipeline: its file, or a folder with a pipeline.toml [default: all results]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) pipeline: Option<PathBuf>,
    /// Only these stages, with what they need
    #[arg(value_name = "STAGE")]
    pub(crate) stages: Vec<String>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Say what would be transferred; transfer nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Folder of the new project; made if it is not there
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_gives_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  qapipe "), "{}", command.get_name());
            assert!(help.lines().all(|line| line.chars().count() <= 140), "{}", command.get_name());
        }
    }
}
