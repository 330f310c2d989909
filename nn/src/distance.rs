//! How far what a student's layers hand out is from what its teacher's layers do.
//!
//! Distances are means over the tokens of each sequence, and then over sequences as they count in the loss: so a batch may be taken in
//! parts. They are scalars in f32, and only the student has a gradient.

use tch::{Kind, Tensor};

use crate::error::{NnError, Result};
use crate::packed::Packed;
use crate::recorder::{Scores, Stack};

/// Which layers of a teacher a student's layers are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// Layer i of n with layer (i + 1) · m / n - 1 of the teacher's m, counted from 0 and rounded down; the first at least.
    #[default]
    Even,
    /// The student is made of these layers of the teacher, stack by stack.
    Kept(Vec<Vec<usize>>),
}

impl Matching {
    /// The layers of a stack of the teacher, of `teacher` layers, that go with the student's `student` layers.
    ///
    /// # Errors
    /// Where the student does not have the layers that it is said to have.
    pub fn partners(&self, stack: usize, student: usize, teacher: usize) -> Result<Vec<usize>> {
        match self {
            Self::Even => Ok((1..=student).map(|layer| (layer * teacher / student).max(1) - 1).collect()),
            Self::Kept(stacks) => match stacks.get(stack) {
                Some(kept) if kept.len() == student && kept.iter().all(|&layer| layer < teacher) => Ok(kept.clone()),
                _ => Err(NnError::Input(format!("a student of {student} layers is not made of the teacher's that were kept"))),
            },
        }
    }
}

/// How far a student's states are from its teacher's: the mean over matched layers, and over what goes into the first where both are of one
/// width, of the mean squared difference of a token's state.
///
/// States of different widths have no difference. Of them the cosine similarities of each two tokens of a sequence are compared: the mean
/// squared difference over all pairs (relational distillation, after Park et al. 2019, arXiv 1904.05068).
///
/// `weights`, f32 `[sequences]`: what each sequence counts for; all alike where it is not said.
///
/// # Errors
/// Where the two read different tokens, or have different stacks.
pub fn state_distance(student: &[Stack], teacher: &[Stack], matching: &Matching, weights: Option<&Tensor>) -> Result<Tensor> {
    let mut distances = Vec::new();
    for (number, (student, teacher)) in paired(student, teacher)?.enumerate() {
        let partners = matching.partners(number, student.layers(), teacher.layers())?;
        let places = partners.iter().enumerate().map(|(own, layer)| (own + 1, layer + 1));
        let same_width = student.states[0].size() == teacher.states[0].size();
        for (own, other) in same_width.then_some((0, 0)).into_iter().chain(places) {
            distances.push(weigh(&of_states(&student.states[own], &teacher.states[other], &student.packed)?, weights)?);
        }
    }
    Ok(Tensor::f_stack(&distances, 0)?.f_mean(Kind::Float)?)
}

/// How far a student's attention is from its teacher's, in the last layer of the stack that reads: the mean over heads and tokens of
/// KL(teacher ‖ student) of where a token looks (`MiniLM`, Wang et al. 2020, arXiv 2002.10957).
///
/// A student of another number of heads has its queries and keys split into as many as the teacher has (`MiniLMv2`, Wang et al. 2021, arXiv
/// 2012.15828). `weights`: as in [`state_distance`].
///
/// # Errors
/// Where one of them has no such attention, the student's heads cannot be split so, or the two read different tokens.
pub fn attention_distance(student: &[Stack], teacher: &[Stack], weights: Option<&Tensor>) -> Result<Tensor> {
    let pair = paired(student, teacher)?.next();
    let own = pair.and_then(|(student, _)| student.attention.as_ref()).ok_or_else(|| without_attention("student"))?;
    let other = pair.and_then(|(_, teacher)| teacher.attention.as_ref()).ok_or_else(|| without_attention("teacher"))?;
    let (packed, heads) = (&student[0].packed, other.query.size()[1]);
    let own = looks(&own.split(heads)?, packed)?;
    let other = looks(other, packed)?.f_detach()?;
    // Where there is no token both are minus infinity, and their difference is no number.
    let gap = other.f_sub(&own)?.f_masked_fill(&packed.mask()?.f_logical_not()?, 0.0)?;
    let of_tokens = other.f_exp()?.f_mul(&gap)?.f_sum_dim_intlist(-1_i64, false, Kind::Float)?.f_mean_dim(1_i64, false, Kind::Float)?;
    let there = packed.mask()?.f_flatten(1, 3)?;
    let sums = of_tokens.f_mul(&there)?.f_sum_dim_intlist(1_i64, false, Kind::Float)?;
    weigh(&sums.f_div(&packed.counts()?)?, weights)
}

/// The error for a model without attention that could be compared.
fn without_attention(whose: &str) -> NnError {
    NnError::Input(format!(
        "the {whose} has no attention of its tokens to each other that could be compared; BERT and T5 have: write `attention = 0`"
    ))
}

/// The stacks that belong together.
fn paired<'a>(student: &'a [Stack], teacher: &'a [Stack]) -> Result<impl Iterator<Item = (&'a Stack, &'a Stack)>> {
    let same = |(student, teacher): (&Stack, &Stack)| student.packed.lengths() == teacher.packed.lengths();
    if student.is_empty() || student.len() != teacher.len() || !student.iter().zip(teacher).all(same) {
        return Err(NnError::Input("the layers of teacher and student read different tokens, and cannot be compared".into()));
    }
    Ok(student.iter().zip(teacher))
}

/// The mean over sequences of something that there is of each, `[sequences]`.
fn weigh(values: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
    match weights {
        Some(weights) => Ok(values.f_mul(weights)?.f_sum(Kind::Float)?.f_div(&weights.f_sum(Kind::Float)?)?),
        None => Ok(values.f_mean(Kind::Float)?),
    }
}

/// How far states `[tokens, width]` are from others, sequence by sequence: f32 `[sequences]`.
fn of_states(student: &Tensor, teacher: &Tensor, packed: &Packed) -> Result<Tensor> {
    let (student, teacher) = (student.f_to_kind(Kind::Float)?, teacher.f_detach()?.f_to_kind(Kind::Float)?);
    let counts = packed.counts()?;
    if student.size() == teacher.size() {
        let of_tokens = student.f_sub(&teacher)?.f_square()?.f_mean_dim(1_i64, false, Kind::Float)?;
        let table = packed.spread(&of_tokens.f_view([-1, 1, 1])?)?.f_flatten(1, 3)?;
        return Ok(table.f_sum_dim_intlist(1_i64, false, Kind::Float)?.f_div(&counts)?);
    }
    // Where there is no token all similarities are zero on both sides.
    let gaps = similarities(&student, packed)?.f_sub(&similarities(&teacher, packed)?)?.f_square()?;
    Ok(gaps.f_flatten(1, 2)?.f_sum_dim_intlist(1_i64, false, Kind::Float)?.f_div(&counts)?.f_div(&counts)?)
}

/// Cosine similarities of each two tokens of a sequence, `[sequences, width, width]`, of states `[tokens, features]`.
fn similarities(states: &Tensor, packed: &Packed) -> Result<Tensor> {
    let lengths = states.f_square()?.f_sum_dim_intlist(1_i64, true, Kind::Float)?.f_add_scalar(1e-12)?.f_sqrt()?;
    let table = packed.spread(&states.f_div(&lengths)?.f_unsqueeze(1)?)?.f_squeeze_dim(1)?;
    Ok(table.f_matmul(&table.f_transpose(1, 2)?)?)
}

impl Scores {
    /// The same in so many heads.
    fn split(&self, heads: i64) -> Result<Self> {
        let [tokens, own, size] = self.query.size()[..] else { return Err(NnError::torch("queries are no heads")) };
        let fits = own == heads || (self.bias.is_none() && (own * size) % heads == 0);
        if !fits {
            let why = if self.bias.is_some() { "its position biases belong to its heads" } else { "their width does not allow it" };
            return Err(NnError::Input(format!("the student's {own} heads of {size} cannot be split into the teacher's {heads}: {why}")));
        }
        let view = |states: &Tensor| states.f_reshape([tokens, heads, -1]);
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Ok(Self { query: view(&self.query)?, key: view(&self.key)?, bias, scale: self.scale })
    }
}

/// Where each token looks: logarithms of shares, f32 `[sequences, heads, width, width]`; minus infinity where there is no token.
fn looks(scores: &Scores, packed: &Packed) -> Result<Tensor> {
    #[allow(clippy::cast_precision_loss)]
    let scale = scores.scale.unwrap_or_else(|| (scores.query.size()[2] as f64).powf(-0.5));
    let query = packed.spread(&scores.query.f_to_kind(Kind::Float)?)?;
    let key = packed.spread(&scores.key.f_to_kind(Kind::Float)?)?;
    let products = query.f_matmul(&key.f_transpose(2, 3)?)?.f_mul_scalar(scale)?;
    let products = match &scores.bias {
        Some(bias) => products.f_add(&bias.f_to_kind(Kind::Float)?)?,
        None => products,
    };
    Ok(products.f_masked_fill(&packed.mask()?.f_logical_not()?, f64::NEG_INFINITY)?.f_log_softmax(-1, Kind::Float)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_precision_loss)]
mod tests {
    use tch::Device;

    use super::*;

    /// Two sequences, of three tokens and of one.
    const LENGTHS: [usize; 2] = [3, 1];

    fn packed() -> Packed {
        Packed::of_one_segment(&[&[1, 2, 3], &[4]]).unwrap()
    }

    fn tensor(rows: &[Vec<f64>]) -> Tensor {
        Tensor::from_slice2(rows).to_kind(Kind::Float)
    }

    /// Numbers that follow no pattern, `[4, columns]`.
    fn drawn(columns: usize, seed: f64) -> Vec<Vec<f64>> {
        (0..4).map(|row| (0..columns).map(|column| ((row * columns + column) as f64 * 1.7 + seed).sin()).collect()).collect()
    }

    fn stack(states: &[&[Vec<f64>]], attention: Option<Scores>) -> Stack {
        Stack { packed: packed(), states: states.iter().map(|rows| tensor(rows)).collect(), attention }
    }

    /// Means over the tokens of each sequence.
    fn means(tokens: &[f64]) -> [f64; 2] {
        [tokens[..3].iter().sum::<f64>() / 3.0, tokens[3]]
    }

    fn assert_close(found: &Tensor, wanted: f64) {
        let found = found.double_value(&[]);
        assert!((found - wanted).abs() < 1e-6 * wanted.abs().max(1.0), "{found} and not {wanted}");
    }

    #[test]
    fn states_of_one_width_are_as_far_apart_as_their_mean_squared_difference() {
        let (below, student, teacher) = (drawn(2, 0.0), drawn(2, 0.3), drawn(2, 1.1));
        let squares = |one: &[Vec<f64>], other: &[Vec<f64>]| {
            let of = |(one, other): (&Vec<f64>, &Vec<f64>)| one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 2.0;
            means(&one.iter().zip(other).map(of).collect::<Vec<_>>())
        };
        let students = [stack(&[&below, &student], None)];
        let teachers = [stack(&[&student, &below, &teacher], None)];
        let (input, layer) = (squares(&below, &student), squares(&student, &teacher));
        let wanted = |weights: [f64; 2]| {
            let of = |pair: [f64; 2]| (pair[0] * weights[0] + pair[1] * weights[1]) / (weights[0] + weights[1]);
            (of(input) + of(layer)) / 2.0
        };
        assert_close(&state_distance(&students, &teachers, &Matching::Even, None).unwrap(), wanted([1.0, 1.0]));
        let weights = Tensor::from_slice(&[1.0_f32, 5.0]);
        assert_close(&state_distance(&students, &teachers, &Matching::Even, Some(&weights)).unwrap(), wanted([1.0, 5.0]));
        let kept = Matching::Kept(vec![vec![0]]);
        let layer = squares(&student, &below);
        assert_close(
            &state_distance(&students, &teachers, &kept, None).unwrap(),
            (input.iter().sum::<f64>() + layer.iter().sum::<f64>()) / 4.0,
        );
    }

    #[test]
    fn states_of_different_widths_are_compared_by_the_similarities_of_tokens() {
        let (student, teacher) = (drawn(2, 0.3), drawn(5, 1.1));
        let cosine = |rows: &[Vec<f64>], i: usize, j: usize| {
            let dot = |a: usize, b: usize| rows[a].iter().zip(&rows[b]).map(|(a, b)| a * b).sum::<f64>();
            dot(i, j) / (dot(i, i) * dot(j, j)).sqrt()
        };
        // The second sequence has one token, which is like itself in both.
        let gaps = (0..3).flat_map(|i| (0..3).map(move |j| (i, j))).map(|(i, j)| (cosine(&student, i, j) - cosine(&teacher, i, j)).powi(2));
        let wanted = gaps.sum::<f64>() / 9.0 / 2.0;
        let (students, teachers) = ([stack(&[&student, &student], None)], [stack(&[&teacher, &teacher], None)]);
        assert_close(&state_distance(&students, &teachers, &Matching::Even, None).unwrap(), wanted);
    }

    /// Queries and keys as scores in so many heads.
    fn scores(query: &[Vec<f64>], key: &[Vec<f64>], heads: i64, bias: Option<Tensor>, scale: Option<f64>) -> Scores {
        let view = |rows: &[Vec<f64>]| tensor(rows).view([4, heads, -1]);
        Scores { query: view(query), key: view(key), bias, scale }
    }

    /// The shares of a head's attention of a token, where the keys are tokens `from..to` and the head's numbers `at..at + size`.
    fn shares(query: &[f64], keys: &[Vec<f64>], at: usize, size: usize, scale: f64, bias: impl Fn(usize) -> f64) -> Vec<f64> {
        let product = |key: &Vec<f64>| (at..at + size).map(|place| query[place] * key[place]).sum::<f64>() * scale;
        let powers: Vec<f64> = keys.iter().enumerate().map(|(number, key)| (product(key) + bias(number)).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    }

    fn kl(teacher: &[f64], student: &[f64]) -> f64 {
        teacher.iter().zip(student).map(|(t, s)| t * (t / s).ln()).sum()
    }

    /// What the distance should be where heads are of so many numbers on each side.
    fn by_hand(
        student: [&[Vec<f64>]; 2],
        teacher: [&[Vec<f64>]; 2],
        sizes: [usize; 2],
        scales: [f64; 2],
        bias: impl Fn(usize, usize, usize) -> f64,
    ) -> f64 {
        let heads = student[0][0].len() / sizes[0];
        let of_token = |token: usize| {
            let (from, to) = if token < 3 { (0, 3) } else { (3, 4) };
            let of_head = |head: usize| {
                let share = |side: [&[Vec<f64>]; 2], at: usize| {
                    shares(&side[0][token], &side[1][from..to], head * sizes[at], sizes[at], scales[at], |key| {
                        bias(head, token - from, key)
                    })
                };
                kl(&share(teacher, 1), &share(student, 0))
            };
            (0..heads).map(of_head).sum::<f64>() / heads as f64
        };
        let found = means(&(0..4).map(of_token).collect::<Vec<_>>());
        assert_eq!(LENGTHS.iter().sum::<usize>(), 4);
        f64::midpoint(found[0], found[1])
    }

    #[test]
    fn attention_is_as_far_apart_as_the_divergence_of_where_tokens_look() {
        let [q, k, tq, tk] = [0.2, 0.9, 1.4, 2.2].map(|seed| drawn(4, seed));
        let pass = |heads: i64, teacher_heads: i64| {
            let student = [stack(&[], Some(scores(&q, &k, heads, None, None)))];
            let teacher = [stack(&[], Some(scores(&tq, &tk, teacher_heads, None, None)))];
            attention_distance(&student, &teacher, None)
        };
        let root = 2_f64.powf(-0.5);
        let wanted = by_hand([&q, &k], [&tq, &tk], [2, 2], [root, root], |_, _, _| 0.0);
        assert_close(&pass(2, 2).unwrap(), wanted);
        // Other heads are split as the teacher's are.
        assert_close(&pass(1, 2).unwrap(), wanted);
        assert_close(&pass(4, 2).unwrap(), wanted);
        assert_close(&pass(2, 4).unwrap(), by_hand([&q, &k], [&tq, &tk], [1, 1], [1.0, 1.0], |_, _, _| 0.0));
    }

    #[test]
    fn position_biases_belong_to_the_scores() {
        let [q, k, tq, tk] = [0.2, 0.9, 1.4, 2.2].map(|seed| drawn(4, seed));
        let width = packed().width();
        let bias = |head: usize, query: usize, key: usize| (head as f64 + 1.0) * (query as f64 - key as f64) / 5.0;
        let of = |head: i64| {
            let at = Tensor::arange(width, (Kind::Float, Device::Cpu));
            (at.unsqueeze(1) - at.unsqueeze(0)) * ((head + 1) as f64 / 5.0)
        };
        let table = Tensor::stack(&[of(0), of(1)], 0).unsqueeze(0);
        let side = |query: &[Vec<f64>], key: &[Vec<f64>]| [stack(&[], Some(scores(query, key, 2, Some(table.shallow_clone()), Some(1.0))))];
        let wanted = by_hand([&q, &k], [&tq, &tk], [2, 2], [1.0, 1.0], bias);
        assert_close(&attention_distance(&side(&q, &k), &side(&tq, &tk), None).unwrap(), wanted);
        let other = [stack(&[], Some(scores(&q, &k, 1, Some(table.shallow_clone()), Some(1.0))))];
        let error = attention_distance(&other, &side(&tq, &tk), None).unwrap_err().to_string();
        assert!(
            error.contains("the student's 1 heads of 4 cannot be split into the teacher's 2: its position biases belong to its heads"),
            "{error}"
        );
    }

    #[test]
    fn layers_go_with_layers_evenly() {
        let even = |student, teacher| Matching::Even.partners(0, student, teacher).unwrap();
        assert_eq!((even(3, 6), even(4, 6), even(2, 2)), (vec![1, 3, 5], vec![0, 2, 3, 5], vec![0, 1]));
        // A deeper student is compared several times with a layer.
        assert_eq!(even(4, 2), [0, 0, 0, 1]);
        let kept = Matching::Kept(vec![vec![0, 2]]);
        assert_eq!(kept.partners(0, 2, 3).unwrap(), [0, 2]);
        assert!(kept.partners(0, 1, 3).is_err() && kept.partners(0, 2, 2).is_err() && kept.partners(1, 2, 3).is_err());
    }
}
