//! `metrics`: one row an evaluation, quality beside cost. A figure that was not measured is null, and so are times and energy where other stages
//! ran on the GPU at the time.

use super::table;

table! {
    /// What an `evaluate` stage writes.
    MetricsRow {
        /// Name of the data set.
        dataset: Option<String>,
        /// Version of the data set, `1.1` or `2.0`.
        dataset_version: Option<String>,
        /// Device that the model ran on, such as `cpu` or `NVIDIA H100 80GB HBM3`.
        device: Option<String>,
        /// What the model computed in: `fp32` or `bf16`.
        dtype: Option<String>,
        /// Questions scored.
        total: Option<i64>,
        /// Answers exactly right, in percent.
        exact: Option<f64>,
        /// Lower end of the 95 % bootstrap interval of `exact`.
        exact_low: Option<f64>,
        /// Upper end of the 95 % bootstrap interval of `exact`.
        exact_high: Option<f64>,
        /// Half the width of that interval.
        exact_interval: Option<f64>,
        /// Mean overlap with the gold answers, in percent.
        f1: Option<f64>,
        /// Lower end of the 95 % bootstrap interval of `f1`.
        f1_low: Option<f64>,
        /// Upper end of the 95 % bootstrap interval of `f1`.
        f1_high: Option<f64>,
        /// Questions with a gold answer.
        has_answer_total: Option<i64>,
        /// `exact` over the questions with a gold answer.
        has_answer_exact: Option<f64>,
        /// `f1` over the questions with a gold answer.
        has_answer_f1: Option<f64>,
        /// Questions without a gold answer.
        no_answer_total: Option<i64>,
        /// `exact` over the questions without a gold answer.
        no_answer_exact: Option<f64>,
        /// `f1` over the questions without a gold answer.
        no_answer_f1: Option<f64>,
        /// What `exact` would be if every question were answered with nothing.
        abstain_exact: Option<f64>,
        /// What `f1` would be if every question were answered with nothing.
        abstain_f1: Option<f64>,
        /// Null threshold that `exact` and `f1` were measured at.
        threshold: Option<f64>,
        /// Where that threshold comes from: `fixed` or `tuned` on held-out train articles.
        threshold_from: Option<String>,
        /// Best `exact` over all thresholds on these very questions: it flatters.
        best_exact: Option<f64>,
        /// The threshold of `best_exact`.
        best_exact_threshold: Option<f64>,
        /// Best `f1` over all thresholds on these very questions: it flatters.
        best_f1: Option<f64>,
        /// The threshold of `best_f1`.
        best_f1_threshold: Option<f64>,
        /// Parameters of the model.
        parameters: Option<i64>,
        /// Parameters that were trained.
        parameters_trained: Option<i64>,
        /// Parameters that are left after pruning.
        parameters_remaining: Option<i64>,
        /// Bytes of the weights on disk.
        bytes: Option<i64>,
        /// Bytes of the weights in memory.
        resident_bytes: Option<i64>,
        /// Floating-point operations of one forward pass at the longest window, counted by formula.
        flops: Option<f64>,
        /// Seconds of training without the evaluations on the way, over all stages that trained this model.
        train_seconds: Option<f64>,
        /// Peak memory of training and of the evaluations on the way, in bytes: of the device on CUDA, of the process on the CPU.
        train_peak_memory_bytes: Option<f64>,
        /// Energy of training and of the evaluations on the way, in joules.
        train_energy_joules: Option<f64>,
        /// Seconds of answering all questions.
        evaluate_seconds: Option<f64>,
        /// Peak memory of answering in bytes: of the device on CUDA, of the process on the CPU.
        peak_memory_bytes: Option<f64>,
        /// Energy of answering all questions in joules.
        energy_joules: Option<f64>,
        /// Median time of one question on its own, in milliseconds.
        latency_p50_ms: Option<f64>,
        /// 95th percentile of the time of one question on its own, in milliseconds.
        latency_p95_ms: Option<f64>,
        /// Questions a second in large batches.
        throughput: Option<f64>,
    }
}

impl MetricsRow {
    /// The row of a stage beside which others ran on its GPU: what it took in time and energy says nothing of the model.
    pub(super) fn without_times(self) -> Self {
        Self { evaluate_seconds: None, energy_joules: None, latency_p50_ms: None, latency_p95_ms: None, throughput: None, ..self }
    }
}
