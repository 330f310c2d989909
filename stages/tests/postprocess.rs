//! From logits to answers.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use qapipe_stages::bootstrap::interval;
use qapipe_stages::postprocess::{Proposal, Settings, Span, Window, answer, propose};

const STARTS: [u32; 3] = [0, 2, 6];
const ENDS: [u32; 3] = [1, 5, 9];

/// `[CLS] q [SEP] one two three [SEP]` over the context `😀 two six`.
fn window<'a>(start: &'a [f32; 7], end: &'a [f32; 7]) -> Window<'a> {
    Window { start, end, context_start: 3, offsets: (&STARTS, &ENDS) }
}

#[test]
fn the_best_span_wins_over_null() {
    let (start, end) = ([1.0, 9.0, 0.0, 0.0, 5.0, 1.0, 0.0], [1.0, 9.0, 0.0, 0.0, 1.0, 4.0, 0.0]);
    let settings = Settings::default();
    let proposal = propose(&window(&start, &end), &settings);
    assert_eq!(proposal.null, (1.0, 1.0));
    assert_eq!(proposal.spans[0], Span { logits: (5.0, 4.0), start: 2, end: 9 });
    // Three tokens make six spans; question and special tokens are never part of one.
    assert_eq!(proposal.spans.len(), 6);
    let found = answer("😀 two six", std::slice::from_ref(&proposal), &settings);
    assert_eq!((found.text.as_str(), found.candidate.as_str(), found.score, found.na_score), ("two six", "two six", 9.0, -7.0));
    let strict = Settings { null_threshold: -7.5, ..settings };
    let found = answer("😀 two six", &[proposal], &strict);
    assert_eq!((found.text.as_str(), found.candidate.as_str()), ("", "two six"));
}

#[test]
fn too_long_spans_are_left_out_and_ties_go_to_the_earlier() {
    let flat = [0.0; 7];
    let proposal = propose(&window(&flat, &flat), &Settings { max_answer_length: 1, ..Settings::default() });
    assert_eq!(proposal.spans.iter().map(|span| span.start).collect::<Vec<_>>(), [0, 2, 6]);
    let few = propose(&window(&flat, &flat), &Settings { n_best: 4, ..Settings::default() });
    assert_eq!(few.spans, [Span { logits: (0.0, 0.0), start: 0, end: 1 }]);
}

#[test]
fn the_null_score_is_the_least_over_the_windows_and_the_threshold_strict() {
    let span = Span { logits: (1.0, 1.0), start: 2, end: 5 };
    let proposals = [Proposal { null: (3.0, 3.0), spans: vec![span] }, Proposal { null: (1.0, 1.0), spans: Vec::new() }];
    let found = answer("😀 two six", &proposals, &Settings::default());
    assert_eq!((found.text.as_str(), found.na_score), ("two", 0.0));
}

#[test]
fn nothing_but_null_gives_the_upstream_candidate() {
    let null = |score: f32| [Proposal { null: (score, 0.0), spans: Vec::new() }];
    assert_eq!(answer("text", &null(1.0), &Settings::default()).text, "");
    assert_eq!(answer("text", &null(-1.0), &Settings::default()).text, "empty");
    assert_eq!(answer("text", &[], &Settings::default()).text, "empty");
}

#[test]
fn intervals_are_seeded_and_hold_the_mean() {
    let values: Vec<f64> = (0..500).map(|at| if at % 4 == 0 { 100.0 } else { 0.0 }).collect();
    let (low, high) = interval(&values, 1000).unwrap();
    assert_eq!(interval(&values, 1000), Some((low, high)));
    // 1.96 standard errors of a share of 0.25 over 500 are 3.8 points.
    assert!((20.5..22.0).contains(&low) && (28.0..29.5).contains(&high), "{low} {high}");
    assert_eq!(interval(&[], 10), None);
    assert_eq!(interval(&values, 0), None);
    assert_eq!(interval(&[7.0], 10), Some((7.0, 7.0)));
}
