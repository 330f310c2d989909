//! `stages`: one row a stage and run.

use super::table;

table! {
    /// What became of a stage in a run.
    StageRow {
        /// Id of the run.
        run: String,
        /// Name of the pipeline.
        pipeline: String,
        /// Name of the stage.
        stage: String,
        /// The axes of the matrix that it depends on, with its values, as JSON; null without any.
        axes: Option<String>,
        /// Its kind.
        kind: String,
        /// Its fingerprint, as 64 hexadecimal digits; null where the run did not get that far.
        key: Option<String>,
        /// What became of it: `done`, `cached`, `failed`, ….
        state: String,
        /// Seconds that its execution took, whenever that was.
        seconds: Option<f64>,
        /// Peak memory of its execution in bytes.
        peak_memory_bytes: Option<f64>,
        /// Device of its execution.
        device: Option<String>,
    }
}
