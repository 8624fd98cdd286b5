//! Plots as PNG, for places that take no SVG: the same drawing in its light colours, at twice the size. The letters come along
//! as outlines, so that a picture looks the same on every machine.

use std::fmt::Write;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::chart::{TEXT_SIZE, TITLE_SIZE, light_style, unescape};
use super::plot::Plot;
use crate::types::Map;

const SCALE: f32 = 2.0;
static LETTERS: &str = include_str!("letters.txt");
/// In place of a character that has no outline here.
const UNKNOWN: char = '�';
/// In what an outline is measured.
const UNITS: f64 = 1000.0;

struct Letter {
    advance: f64,
    outline: &'static str,
}

/// Draws plots; made once, since it reads its letters.
pub struct Painter {
    letters: Map<char, Letter>,
}

impl Painter {
    pub fn new() -> Painter {
        let (_, lines) = LETTERS.split_once("\nLETTERS\n").expect("the licence stands before the letters");
        let letter = |line: &'static str| {
            let character = line.chars().next()?;
            let rest = &line[character.len_utf8() + 1..];
            let (advance, outline) = rest.split_once(' ').unwrap_or((rest, ""));
            Some((character, Letter { advance: advance.parse().ok()?, outline }))
        };
        Painter { letters: lines.lines().filter_map(letter).collect() }
    }

    pub fn png(&self, plot: &Plot) -> Result<Vec<u8>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("the plot {} cannot be drawn: {error}", plot.name);
        let svg = self.spelled(&plot.with_style(&light_style()));
        let tree = Tree::from_str(&svg, &Options::default()).map_err(|error| failed(&error))?;
        let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| failed(&"it has no size"))?;
        let mut canvas = Pixmap::new(size.width(), size.height()).ok_or_else(|| failed(&"it has no size"))?;
        canvas.fill(Color::WHITE);
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut canvas.as_mut());
        canvas.encode_png().map_err(|error| failed(&error))
    }

    /// Each text of a drawing of ours as outlines.
    fn spelled(&self, svg: &str) -> String {
        let mut pieces = svg.split("<text ");
        let mut spelled = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (attributes, rest) = piece.split_once('>').expect("a tag ends");
            let (text, rest) = rest.split_once("</text>").expect("an element ends");
            self.spell(attributes, &unescape(text), &mut spelled);
            spelled.push_str(rest);
        }
        spelled
    }

    fn spell(&self, attributes: &str, text: &str, svg: &mut String) {
        let value = |name: &str| {
            let found = attributes.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
            found.map_or("", |(value, _)| value)
        };
        let place = |name: &str| value(name).parse().unwrap_or(0.0);
        let class = value("class");
        let scale = if class == "title" { TITLE_SIZE } else { TEXT_SIZE } / UNITS;
        let letters = || text.chars().filter_map(|letter| self.letters.get(&letter).or(self.letters.get(&UNKNOWN)));
        let width = scale * letters().map(|letter| letter.advance).sum::<f64>();
        let mut x: f64 = match value("text-anchor") {
            "middle" => place("x") - width / 2.0,
            "end" => place("x") - width,
            _ => place("x"),
        };
        let y: f64 = place("y");
        let _ = write!(svg, "<g class=\"letters {class}\" style=\"{}\">", value("style"));
        for letter in letters() {
            let outline = letter.outline;
            let _ = write!(svg, "<path transform=\"translate({x:.2} {y:.2}) scale({scale})\" d=\"{outline}\"/>");
            x += scale * letter.advance;
        }
        svg.push_str("</g>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::chart::{HEIGHT, WIDTH};
    use crate::load::plot::plots;
    use crate::load::plot::tests::document;

    /// Pixels that are not white within a rectangle of the drawing.
    fn inked(picture: &Pixmap, x: std::ops::Range<f64>, y: std::ops::Range<f64>) -> usize {
        let scaled = |range: std::ops::Range<f64>| (2.0 * range.start) as u32..(2.0 * range.end) as u32;
        let all = scaled(y).flat_map(|y| scaled(x.clone()).map(move |x| (x, y)));
        all.filter(|(x, y)| picture.pixel(*x, *y).is_some_and(|pixel| pixel.red() < 200)).count()
    }

    fn drawn(svg: &str) -> Pixmap {
        let plot = Plot {
            name: "p".into(),
            narrow_svg: None,
            svg: format!("<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 100 20\">{svg}</svg>"),
        };
        Pixmap::decode_png(&Painter::new().png(&plot).unwrap()).unwrap()
    }

    #[test]
    fn a_plot_is_drawn_on_white_at_twice_its_size_with_colours_and_words() {
        let painter = Painter::new();
        let heat = &plots(&document(&[("linger.ms", &["0", "5"]), ("batch.size", &["16k", "64k"])]))[0];
        let picture = Pixmap::decode_png(&painter.png(heat).unwrap()).unwrap();
        assert_eq!(f64::from(picture.width()), 2.0 * WIDTH);
        assert_eq!(inked(&picture, 0.0..10.0, 0.0..10.0), 0);
        // The hottest cell of the heat map is dark, and the title stands where the drawing says.
        assert!(picture.pixels().iter().filter(|pixel| pixel.red() == 100 && pixel.green() == 16).count() > 1000);
        assert!(inked(&picture, 16.0..150.0, 4.0..24.0) > 500);

        let run = plots(&document(&[]));
        let picture = Pixmap::decode_png(&painter.png(&run[0]).unwrap()).unwrap();
        assert_eq!((f64::from(picture.width()), f64::from(picture.height())), (2.0 * WIDTH, 2.0 * HEIGHT));
    }

    #[test]
    fn text_stands_where_its_anchor_says() {
        let ink = |anchor: &str| {
            let picture = drawn(&format!("<text x=\"50\" y=\"15\" text-anchor=\"{anchor}\">&lt;HH</text>"));
            (inked(&picture, 0.0..50.0, 0.0..20.0), inked(&picture, 50.0..100.0, 0.0..20.0))
        };
        assert!(matches!(ink("start"), (0, 100..)) && matches!(ink("end"), (100.., 0)));
        let (left, right) = ink("middle");
        assert!(left > 50 && right > 50, "{left} {right}");
    }

    #[test]
    fn every_letter_that_plots_use_has_an_outline_and_others_a_sign() {
        let painter = Painter::new();
        let used = (' '..='~').chain("µ–…×·≤≥é".chars());
        used.for_each(|letter| assert!(painter.letters.contains_key(&letter), "{letter}"));
        assert!(painter.letters.values().all(|letter| letter.advance > 0.0));
        assert!(inked(&drawn("<text x=\"10\" y=\"15\">漢</text>"), 0.0..100.0, 0.0..20.0) > 50);
    }
}
