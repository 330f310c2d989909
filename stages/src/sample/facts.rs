//! What the sample is made of: things with six facts each, in one or two wordings.

use rand_chacha::ChaCha8Rng;

use super::pick;
use crate::bootstrap::below;

/// One sort of thing.
pub(super) struct Domain {
    /// What its articles are called.
    pub(super) title: &'static str,
    /// First halves of names.
    pub(super) first: &'static [&'static str],
    /// What stands between the halves.
    pub(super) joint: &'static str,
    /// Second halves of names.
    pub(super) last: &'static [&'static str],
    /// The first sentence of a paragraph; `{s}` is the name.
    pub(super) opening: &'static str,
    /// What can be said of it.
    pub(super) facts: [Fact; 6],
}

/// One thing that can be said, and asked.
pub(super) struct Fact {
    /// Sentences that state it; `{s}` is the name, `{a}` the answer.
    pub(super) sentences: &'static [&'static str],
    /// Questions that ask for it.
    pub(super) questions: &'static [&'static str],
    /// What the answer may be.
    pub(super) answers: Answers,
}

/// What an answer may be.
pub(super) enum Answers {
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A first and a last name.
    Person,
    /// A year from 1700 to 1895, in steps of five.
    Year,
    /// A number from 20 to 900, in steps of ten and more.
    Number,
}

impl Answers {
    /// Draws one.
    pub(super) fn draw(&self, random: &mut ChaCha8Rng) -> String {
        match self {
            Self::OneOf(words) => pick(random, words).to_owned(),
            Self::Person => format!("{} {}", pick(random, FIRST), pick(random, LAST)),
            Self::Year => (1700 + 5 * below(random, 40)).to_string(),
            Self::Number => (20 + 40 * below(random, 23)).to_string(),
        }
    }
}

/// Sentences that state nothing that is asked for.
pub(super) const FILLERS: &[&str] = &[
    "Little else was written down at the time.",
    "Old letters tell the rest of the story.",
    "Many visitors have asked about it since.",
    "The rest is told differently by everyone.",
    "A small museum keeps a drawing of it.",
];

const FIRST: &[&str] = &[
    "Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irma", "Jonas", "Karin", "Leon", "Maria", "Nils", "Olga",
    "Pavel", "Rosa", "Simon", "Tilda", "Viktor",
];
const LAST: &[&str] = &[
    "Abel", "Brandt", "Carlsen", "Dorn", "Ekberg", "Falk", "Gruber", "Holm", "Ivers", "Jansen", "Keller", "Lund", "Moser", "Novak",
    "Olsen", "Petrov", "Quist", "Rossi", "Stein", "Winter",
];
const PLACES: &[&str] = &[
    "Lisbon", "Vienna", "Oslo", "Dublin", "Prague", "Warsaw", "Athens", "Madrid", "Geneva", "Turin", "Riga", "Ghent", "Porto", "Bergen",
    "Krakow", "Seville",
];
const COLOURS: &[&str] = &["red", "blue", "green", "yellow", "white", "black", "grey", "orange", "purple", "brown"];

const fn fact(sentences: &'static [&'static str], questions: &'static [&'static str], answers: Answers) -> Fact {
    Fact { sentences, questions, answers }
}

/// Every sort of thing.
pub(super) const DOMAINS: [Domain; 5] = [
    Domain {
        title: "Towns of the valley",
        first: &["Maren", "Alten", "Birken", "Dorn", "Eichen", "Falken", "Gold", "Hohen", "Linden", "Neuen", "Ober", "Rosen"],
        joint: "",
        last: &["feld", "berg", "burg", "dorf", "hafen", "heim", "stadt", "tal", "wald", "bruck", "see", "stein"],
        opening: "{s} is a small town in the valley.",
        facts: [
            fact(&["The town was founded in {a}.", "{s} was founded in {a}."], &["When was {s} founded?"], Answers::Year),
            fact(&["The mayor of the town is {a}.", "Its mayor is {a}."], &["Who is the mayor of {s}?"], Answers::Person),
            fact(
                &["It lies on the river {a}.", "The town lies on the river {a}."],
                &["Which river does {s} lie on?"],
                Answers::OneOf(&["Arno", "Drava", "Elbe", "Isar", "Lahn", "Neva", "Oder", "Rhone", "Saale", "Tagus", "Vistula", "Weser"]),
            ),
            fact(&["About {a} people live there.", "Today {a} people live there."], &["How many people live in {s}?"], Answers::Number),
            fact(
                &["The town is known for its {a}.", "It is known for its {a}."],
                &["What is {s} known for?"],
                Answers::OneOf(&[
                    "cheese",
                    "honey",
                    "apple cake",
                    "glass",
                    "clocks",
                    "rye bread",
                    "plum wine",
                    "pottery",
                    "salt",
                    "wooden toys",
                ]),
            ),
            fact(
                &["Its oldest building is a {a}.", "The oldest building of the town is a {a}."],
                &["What is the oldest building of {s}?"],
                Answers::OneOf(&[
                    "windmill",
                    "chapel",
                    "stone tower",
                    "tavern",
                    "barn",
                    "town hall",
                    "brewery",
                    "school",
                    "watermill",
                    "bath house",
                ]),
            ),
        ],
    },
    Domain {
        title: "Scholars",
        first: FIRST,
        joint: " ",
        last: &["Thorn", "Vogel", "Marsh", "Linde", "Berger", "Hale", "Sato", "Costa", "Reyes", "Dahl", "Fink", "Varga"],
        opening: "{s} was a scholar of some fame.",
        facts: [
            fact(&["The scholar was born in {a}.", "{s} was born in {a}."], &["When was {s} born?"], Answers::Year),
            fact(&["The scholar grew up near {a}.", "{s} grew up near {a}."], &["Where did {s} grow up?"], Answers::OneOf(PLACES)),
            fact(&["An early teacher was {a}.", "The first teacher was {a}."], &["Who was the teacher of {s}?"], Answers::Person),
            fact(
                &["Most of the work was about {a}.", "The best work was about {a}."],
                &["What was the work of {s} about?"],
                Answers::OneOf(&[
                    "comets",
                    "mosses",
                    "tides",
                    "magnets",
                    "old maps",
                    "beetles",
                    "volcanoes",
                    "prime numbers",
                    "fossils",
                    "optics",
                ]),
            ),
            fact(&["The scholar wrote {a} letters.", "{s} wrote {a} letters."], &["How many letters did {s} write?"], Answers::Number),
            fact(
                &["In the evenings {s} played the {a}.", "The scholar played the {a}."],
                &["Which instrument did {s} play?"],
                Answers::OneOf(&["violin", "flute", "harp", "cello", "organ", "lute", "piano", "trumpet", "horn", "drum"]),
            ),
        ],
    },
    Domain {
        title: "Companies",
        first: &["North", "Silver", "Iron", "River", "Summit", "Harbor", "Amber", "Crown", "Delta", "Pioneer", "Union", "Crystal"],
        joint: " ",
        last: &["Works", "Trading", "Brothers", "Motors", "Mills", "Foods", "Supply", "Press", "Textiles", "Metals", "Tools", "Lines"],
        opening: "{s} is a company with a long past.",
        facts: [
            fact(&["The company was started in {a}.", "{s} was started in {a}."], &["When was {s} started?"], Answers::Year),
            fact(&["The company is led by {a}.", "{s} is led by {a}."], &["Who leads {s}?"], Answers::Person),
            fact(
                &["Its main office is in {a}.", "The main office is in {a}."],
                &["Where is the main office of {s}?"],
                Answers::OneOf(PLACES),
            ),
            fact(&["The company has {a} workers.", "{s} has {a} workers."], &["How many workers does {s} have?"], Answers::Number),
            fact(
                &["The company makes {a}.", "{s} makes {a}."],
                &["What does {s} make?"],
                Answers::OneOf(&[
                    "bicycles",
                    "paint",
                    "lamps",
                    "sewing machines",
                    "paper",
                    "rope",
                    "furniture",
                    "steam pumps",
                    "buttons",
                    "knives",
                ]),
            ),
            fact(
                &["The sign over its gate is {a}.", "The sign of the company is {a}."],
                &["Which colour is the sign of {s}?"],
                Answers::OneOf(COLOURS),
            ),
        ],
    },
    Domain {
        title: "Ships",
        first: &["Bold", "Swift", "Grand", "Silent", "Royal", "Lucky", "Golden", "Brave", "Distant", "Noble", "Morning", "Western"],
        joint: " ",
        last: &["Star", "Falcon", "Queen", "Spirit", "Wind", "Dolphin", "Arrow", "Venture", "Lady", "Dawn", "Tempest", "Crown"],
        opening: "The {s} was a ship of the old fleet.",
        facts: [
            fact(&["The ship was built in {a}.", "The {s} was built in {a}."], &["When was the {s} built?"], Answers::Year),
            fact(&["Its captain was {a}.", "The captain of the ship was {a}."], &["Who was the captain of the {s}?"], Answers::Person),
            fact(
                &["Its home port was {a}.", "The home port of the ship was {a}."],
                &["What was the home port of the {s}?"],
                Answers::OneOf(PLACES),
            ),
            fact(
                &["There were {a} sailors on board.", "It sailed with {a} sailors on board."],
                &["How many sailors were on board the {s}?"],
                Answers::Number,
            ),
            fact(
                &["The ship carried {a}.", "On most trips it carried {a}."],
                &["What did the {s} carry?"],
                Answers::OneOf(&["tea", "wool", "spices", "coal", "sugar", "timber", "olive oil", "dried fish", "silk", "grain"]),
            ),
            fact(
                &["Its sails were {a}.", "The sails of the ship were {a}."],
                &["Which colour were the sails of the {s}?"],
                Answers::OneOf(COLOURS),
            ),
        ],
    },
    Domain {
        title: "Birds",
        first: &[
            "Marsh", "Forest", "Island", "Mountain", "Desert", "Lake", "Northern", "Southern", "Crested", "Spotted", "Masked", "Little",
        ],
        joint: " ",
        last: &["Finch", "Heron", "Warbler", "Owl", "Thrush", "Swallow", "Plover", "Parrot", "Sparrow", "Crane", "Wren", "Kestrel"],
        opening: "The {s} is a rare bird.",
        facts: [
            fact(
                &["The bird was first described in {a}.", "It was first described in {a}."],
                &["When was the {s} first described?"],
                Answers::Year,
            ),
            fact(&["The bird is named after {a}.", "It is named after {a}."], &["Who is the {s} named after?"], Answers::Person),
            fact(
                &["It nests in {a}.", "The bird nests in {a}."],
                &["Where does the {s} nest?"],
                Answers::OneOf(&[
                    "reeds",
                    "hollow trees",
                    "cliffs",
                    "hedges",
                    "tall grass",
                    "caves",
                    "pine trees",
                    "old walls",
                    "sand banks",
                    "thorn bushes",
                ]),
            ),
            fact(
                &["It feeds on {a}.", "The bird feeds on {a}."],
                &["What does the {s} feed on?"],
                Answers::OneOf(&["seeds", "small fish", "snails", "berries", "ants", "frogs", "moths", "worms", "crabs", "nectar"]),
            ),
            fact(
                &["Only {a} pairs are left.", "There are only {a} pairs left."],
                &["How many pairs of the {s} are left?"],
                Answers::Number,
            ),
            fact(
                &["Its wings are {a}.", "The wings of the bird are {a}."],
                &["Which colour are the wings of the {s}?"],
                Answers::OneOf(COLOURS),
            ),
        ],
    },
];
