//! Ways to damage an input.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Numbers at which readers stumble.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "1e308",
    "-0.0",
    "1e-320",
    "99999999999999999999999999",
];
/// What opens something, and may be opened many times over.
const OPENING: [&str; 5] = ["[", "{\"a\":", "${vars.", "a.", "\\"];
/// How often.
const DEPTH: usize = 5000;
/// What an input may grow to, in bytes.
const MOST: usize = 1 << 16;

/// Damages an input in a few places. `others` are good inputs to take parts from, `words` what means something in them.
pub(crate) fn mutate(input: &[u8], others: &[Vec<u8>], words: &[&str], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..=6) {
        step(&mut bytes, others, words, random);
    }
    bytes.truncate(MOST.max(input.len()));
    bytes
}

fn step(bytes: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], random: &mut ChaCha8Rng) {
    let at = random.random_range(0..=bytes.len());
    match random.random_range(0..12) {
        0 => replace(bytes, at, 1, &[random.random()]),
        1 => {
            let bit = 1_u8 << random.random_range(0..8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        2 => replace(bytes, at, length(random), &[]),
        3 => replace(bytes, at, 0, &part(&bytes.clone(), random)),
        4 => {
            let other = &others[random.random_range(0..others.len())];
            replace(bytes, at, length(random), &part(other, random));
        }
        5 => bytes.truncate(at),
        6 if !words.is_empty() => replace(bytes, at, 0, words[random.random_range(0..words.len())].as_bytes()),
        7 => number(bytes, at, random),
        8 => exaggerate(bytes, at, random),
        9 if random.random_range(0..20) == 0 => {
            let opening = OPENING[random.random_range(0..OPENING.len())];
            replace(bytes, at, 0, opening.repeat(random.random_range(1..DEPTH)).as_bytes());
        }
        10 => replace(bytes, at, length(random), random.random::<char>().to_string().as_bytes()),
        _ => {
            let piece = part(bytes, random);
            replace(bytes, at, piece.len(), &piece);
        }
    }
}

/// Puts `new` where `old` bytes are.
fn replace(bytes: &mut Vec<u8>, at: usize, old: usize, new: &[u8]) {
    let end = (at + old).min(bytes.len());
    bytes.splice(at..end, new.iter().copied());
}

/// Mostly short.
fn length(random: &mut ChaCha8Rng) -> usize {
    let most = 1 << random.random_range(0..8);
    random.random_range(0..=most)
}

fn part(bytes: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let start = random.random_range(0..=bytes.len());
    let end = (start + length(random)).min(bytes.len());
    bytes[start..end].to_vec()
}

/// Replaces the next number in a text.
fn number(bytes: &mut Vec<u8>, at: usize, random: &mut ChaCha8Rng) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|ahead| at + ahead) else { return };
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    replace(bytes, start, digits, NUMBERS[random.random_range(0..NUMBERS.len())].as_bytes());
}

/// Writes a number that is too large, or almost, as formats of bytes hold it.
fn exaggerate(bytes: &mut Vec<u8>, at: usize, random: &mut ChaCha8Rng) {
    let width = [2, 4, 8][random.random_range(0..3)];
    let value: u64 = [0, 1, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX, 1 << 40][random.random_range(0..7)];
    replace(bytes, at, width, &value.to_le_bytes()[..width]);
}
