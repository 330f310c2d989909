//! `predictions`: one row a question.

use super::table;

table! {
    /// What an `evaluate` stage writes for a question.
    PredictionRow {
        /// Id of the question.
        id: String,
        /// The answer; empty for none.
        prediction: String,
        /// The best span, whether it was given as the answer or not; null where only answers are known.
        candidate: Option<String>,
        /// Score of the best span.
        score: Option<f64>,
        /// By how much the null answer's score exceeds the best span's; null where it is not known.
        na_score: Option<f64>,
        /// 1 where the answer is exactly right, else 0.
        exact: f64,
        /// Overlap with the nearest gold answer, 0 to 1.
        f1: f64,
        /// Whether the question has a gold answer.
        has_answer: bool,
    }
}
