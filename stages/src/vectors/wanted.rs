//! The words that vectors are looked for, while a file passes by.

use std::collections::HashMap;

/// How well a word is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Served {
    /// Not yet.
    No,
    /// By its lower case.
    Lower,
    /// As it is.
    Exact,
}

/// Where a word of the file is wanted: places in the list of words.
#[derive(Default)]
struct Places {
    exact: Vec<usize>,
    lower: Vec<usize>,
}

/// Words, by what a file may call them.
pub(super) struct Wanted {
    places: HashMap<String, Places>,
    served: Vec<Served>,
}

impl Wanted {
    pub(super) fn new(words: &[String]) -> Self {
        let mut places: HashMap<String, Places> = HashMap::with_capacity(words.len());
        for (at, word) in words.iter().enumerate() {
            places.entry(word.clone()).or_default().exact.push(at);
            let lower = word.to_lowercase();
            if lower != *word {
                places.entry(lower).or_default().lower.push(at);
            }
        }
        Self { places, served: vec![Served::No; words.len()] }
    }

    /// Takes note of a word of the file: the places that get its vector, in place of a worse one that they may have.
    pub(super) fn meet(&mut self, word: &str) -> Vec<usize> {
        let Some(places) = self.places.get(word) else { return Vec::new() };
        let exact = places.exact.iter().map(|&at| (at, Served::Exact));
        let lower = places.lower.iter().map(|&at| (at, Served::Lower));
        let mut taken = Vec::new();
        for (at, served) in exact.chain(lower) {
            if self.served[at] < served {
                self.served[at] = served;
                taken.push(at);
            }
        }
        taken
    }

    /// How a word is served by what has passed.
    pub(super) fn served(&self, at: usize) -> Served {
        self.served[at]
    }
}
