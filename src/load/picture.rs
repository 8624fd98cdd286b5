//! Plots as PNG, for places that take no SVG: the same drawing in its light colours, at twice the size. Needs a font of the
//! machine's own.

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use super::chart::light_style;
use super::plot::Plot;

const SCALE: f32 = 2.0;
/// What is taken of the fonts that are there, first come first served.
const FONTS: &[&str] = &["Inter", "Noto Sans", "DejaVu Sans", "Liberation Sans", "Arial", "Helvetica"];

/// Draws plots; made once, since it looks for fonts.
pub struct Painter {
    options: Options<'static>,
}

impl Painter {
    pub fn new() -> Result<Painter, String> {
        let mut options = Options::default();
        let fonts = options.fontdb_mut();
        fonts.load_system_fonts();
        let family = sans_serif(fonts).ok_or(
            "no font is installed here, and a PNG cannot be drawn without: apt install fonts-dejavu-core, or take --svg",
        )?;
        fonts.set_sans_serif_family(family);
        Ok(Painter { options })
    }

    pub fn png(&self, plot: &Plot) -> Result<Vec<u8>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("the plot {} cannot be drawn: {error}", plot.name);
        let tree = Tree::from_str(&plot.with_style(&light_style()), &self.options).map_err(|error| failed(&error))?;
        let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| failed(&"it has no size"))?;
        let mut canvas = Pixmap::new(size.width(), size.height()).ok_or_else(|| failed(&"it has no size"))?;
        canvas.fill(Color::WHITE);
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut canvas.as_mut());
        canvas.encode_png().map_err(|error| failed(&error))
    }
}

fn sans_serif(fonts: &Database) -> Option<String> {
    let names = || fonts.faces().flat_map(|face| &face.families).map(|(name, _)| name);
    let known = FONTS.iter().find(|font| names().any(|name| name == *font));
    known.map(|font| font.to_string()).or_else(|| names().next().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plot::plots;
    use crate::load::plot::tests::document;

    #[test]
    fn a_plot_is_drawn_on_white_at_twice_its_size_and_has_colours() {
        // A machine without any font says so instead.
        let Ok(painter) = Painter::new() else { return };
        let plots = plots(&document(&[("linger.ms", &["0", "5"]), ("batch.size", &["16k", "64k"])]));
        let png = painter.png(&plots[0]).unwrap();
        let picture = Pixmap::decode_png(&png).unwrap();
        assert_eq!(picture.width(), 2 * super::super::chart::WIDTH as u32);
        let is_white = |x, y| picture.pixel(x, y).is_some_and(|pixel| pixel.demultiply().red() == 255);
        assert!(is_white(1, 1));
        // The hottest cell of the heat map is dark.
        let pixels = picture.pixels().iter().filter(|pixel| pixel.red() == 100 && pixel.green() == 16);
        assert!(pixels.count() > 1000);
    }
}
