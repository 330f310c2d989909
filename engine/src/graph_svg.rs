//! The graph as an SVG picture: columns by depth, boxes ordered so that few arrows cross.

use std::fmt::Write as _;

use crate::graph::Graph;
use crate::graph_text::{entities, flow};

/// Height of a box, in pixels.
const HEIGHT: usize = 44;
/// Space between boxes of a column.
const GAP: usize = 20;
/// Space between columns, where the arrows run.
const LANE: usize = 70;
/// Space around the picture.
const MARGIN: usize = 20;
/// Width of a letter, generously.
const LETTER: usize = 8;
/// How often the order within columns is improved.
const SWEEPS: usize = 4;

impl Graph {
    /// The graph as one self-contained SVG file.
    pub fn to_svg(&self) -> String {
        let layout = Layout::of(self);
        let (width, height) = (layout.width, layout.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" font-family=\"sans-serif\">\n<title>{}</title>\n\
             <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
             <path d=\"M0 0 L8 4 L0 8 z\" fill=\"#6b7280\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
            entities(&self.title)
        );
        for &stage in self.order() {
            self.arrows(stage, &layout, &mut svg);
        }
        for stage in 0..self.len() {
            self.plate(stage, &layout, &mut svg);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn arrows(&self, stage: usize, layout: &Layout, svg: &mut String) {
        let to = &layout.boxes[stage];
        for (from, edge) in self.incoming(stage) {
            let from = &layout.boxes[from];
            let (x0, y0, x1, y1) = (from.x + from.width, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2);
            let bend = LANE / 2;
            let _ = writeln!(
                svg,
                "<path d=\"M{x0} {y0} C{} {y0} {} {y1} {x1} {y1}\" fill=\"none\" stroke=\"#6b7280\" marker-end=\"url(#head)\"><title>{}</title></path>",
                x0 + bend,
                x1 - bend,
                entities(&flow(edge)),
            );
        }
    }

    fn plate(&self, stage: usize, layout: &Layout, svg: &mut String) {
        let Plate { x, y, width } = layout.boxes[stage];
        let middle = x + width / 2;
        let _ = writeln!(
            svg,
            "<g><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"#eef2ff\" stroke=\"#4f46e5\"/>\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"13\" fill=\"#111827\">{}</text>\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#6b7280\">{}</text></g>",
            y + 19,
            entities(&self.label(stage)),
            y + 35,
            entities(self.kind(stage)),
        );
    }
}

/// Where everything goes.
struct Layout {
    boxes: Vec<Plate>,
    width: usize,
    height: usize,
}

/// A box: its upper left corner and its width.
#[derive(Clone, Default)]
struct Plate {
    x: usize,
    y: usize,
    width: usize,
}

impl Layout {
    fn of(graph: &Graph) -> Self {
        let columns = columns(graph);
        let tallest = columns.iter().map(Vec::len).max().unwrap_or(0);
        let height = 2 * MARGIN + (tallest * (HEIGHT + GAP)).saturating_sub(GAP);
        let mut boxes = vec![Plate::default(); graph.len()];
        let mut x = MARGIN;
        for column in &columns {
            let letters = column.iter().map(|&stage| graph.label(stage).chars().count().max(graph.kind(stage).len())).max().unwrap_or(0);
            let width = letters * LETTER + 2 * MARGIN;
            let top = (height - (column.len() * (HEIGHT + GAP)).saturating_sub(GAP)) / 2;
            for (row, &stage) in column.iter().enumerate() {
                boxes[stage] = Plate { x, y: top + row * (HEIGHT + GAP), width };
            }
            x += width + LANE;
        }
        Self { boxes, width: (x + MARGIN).saturating_sub(LANE).max(2 * MARGIN), height }
    }
}

/// The stages of each depth. Within a column, a stage stands at the mean height of its neighbours in the column before and,
/// on the way back, after.
fn columns(graph: &Graph) -> Vec<Vec<usize>> {
    let depths = graph.depths();
    let mut columns = vec![Vec::new(); depths.iter().max().map_or(0, |deepest| deepest + 1)];
    for &stage in graph.order() {
        columns[depths[stage]].push(stage);
    }
    let mut rank = vec![0.0; graph.len()];
    for column in &columns {
        place(column, &mut rank);
    }
    for sweep in 0..SWEEPS {
        let forward = sweep % 2 == 0;
        let mut turns: Vec<&mut Vec<usize>> = columns.iter_mut().collect();
        if !forward {
            turns.reverse();
        }
        for column in turns {
            let near = |stage: usize| if forward { graph.dependencies(stage) } else { graph.dependents(stage) };
            let mut keyed: Vec<(f64, usize)> =
                column.iter().map(|&stage| (mean(&near(stage), &rank).unwrap_or(rank[stage]), stage)).collect();
            keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            *column = keyed.into_iter().map(|(_, stage)| stage).collect();
            place(column, &mut rank);
        }
    }
    columns
}

/// Ranks between 0 and 1, so that columns of different lengths compare.
#[expect(clippy::cast_precision_loss, reason = "positions in a picture")]
fn place(column: &[usize], rank: &mut [f64]) {
    for (row, &stage) in column.iter().enumerate() {
        rank[stage] = (row as f64 + 0.5) / column.len() as f64;
    }
}

#[expect(clippy::cast_precision_loss, reason = "positions in a picture")]
fn mean(stages: &[usize], rank: &[f64]) -> Option<f64> {
    (!stages.is_empty()).then(|| stages.iter().map(|&stage| rank[stage]).sum::<f64>() / stages.len() as f64)
}
