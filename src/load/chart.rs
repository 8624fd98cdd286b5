//! Line charts as SVG text, by own small code: colours come from the page's style sheet, so that one chart serves light and
//! dark, print and file. The benches draw with it too.

use std::fmt::Write;

pub const WIDTH: f64 = 860.0;
/// For screens on which the other would have letters too small to read.
pub const NARROW_WIDTH: f64 = 420.0;
pub const HEIGHT: f64 = 330.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// About what a letter takes.
const LETTER_WIDTH: f64 = 7.0;
const LEGEND_LINE_HEIGHT: f64 = 18.0;
const SHEET_GAP: f64 = 20.0;
/// More points than pixels are not told apart.
const POINTS_MAX: usize = 2000;
/// Up to here each point is drawn, and says its value when it is pointed at.
const DOTTED_MAX: usize = 80;

/// The colours and letters of all plots, for a page or a file.
pub const STYLE: &str = "
.plot{font:12px system-ui,sans-serif;color:#1f2933;--paper:#fff;--grid:#e4e7eb;--muted:#616e7c;
--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#be185d;--c4:#6d28d9;--shade:#f1f3f5}
@media(prefers-color-scheme:dark){.plot{color:#e4e7eb;--paper:#16191d;--grid:#2c3138;--muted:#9aa5b1;
--c0:#60a5fa;--c1:#fbbf24;--c2:#34d399;--c3:#f472b6;--c4:#a78bfa;--shade:#1d2126}}
.plot text{fill:currentColor}.plot .muted{fill:var(--muted)}.plot .title{font-size:14px;font-weight:600}
.plot .grid{stroke:var(--grid);stroke-width:1}.plot .shade{fill:var(--shade)}
.plot .line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.plot .s0{stroke:var(--c0)}.plot .s1{stroke:var(--c1)}.plot .s2{stroke:var(--c2)}.plot .s3{stroke:var(--c3)}
.plot .s4{stroke:var(--c4)}.plot .f0{fill:var(--c0)}.plot .f1{fill:var(--c1)}.plot .f2{fill:var(--c2)}
.plot .f3{fill:var(--c3)}.plot .f4{fill:var(--c4)}.plot .dashed{stroke-dasharray:5 4}
";

/// Of text and of titles, as the style says.
pub const TEXT_SIZE: f64 = 12.0;
pub const TITLE_SIZE: f64 = 14.0;

/// The light colours in words that everything knows which draws SVG: no variables, no media; text is a group of outlines, a
/// title is bold by its rim.
pub fn light_style() -> String {
    let (before, media) = STYLE.split_once("@media").expect("the dark colours");
    let (_, after) = media.split_once("}}").expect("they end");
    let title = "font-size:14px;font-weight:600";
    let after = after.replace(".plot text{", ".plot .letters{").replace(title, "stroke:currentColor;stroke-width:45");
    let mut style = format!("{before}{after}");
    let declarations = before.split([';', '{', '}']).filter_map(|declaration| declaration.trim().split_once(':'));
    for (name, value) in declarations {
        match name {
            "color" => style = style.replace("currentColor", value),
            variable if variable.starts_with("--") => style = style.replace(&format!("var({variable})"), value),
            _ => {}
        }
    }
    style
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    Linear,
    Log,
    /// As `Log`, from the lowest value to the highest, and the grid stands where the values are: for few of them.
    Each,
    /// Percentiles: each further nine takes as much room as the one before.
    Nines,
}

#[derive(Clone, Debug)]
pub struct Axis {
    pub label: &'static str,
    pub scale: Scale,
    pub text: fn(f64) -> String,
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub is_dashed: bool,
}

#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Part of the x axis that does not count.
    pub shaded: Vec<(f64, f64)>,
}

/// Drawings side by side, two to a line, as one `<svg>` element.
pub fn sheet(narrow_svgs: &[String]) -> String {
    let lines = narrow_svgs.len().div_ceil(2) as f64;
    let (width, height) = (2.0 * NARROW_WIDTH + SHEET_GAP, lines * (HEIGHT + SHEET_GAP) - SHEET_GAP);
    let mut svg = format!("<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\">");
    for (index, drawing) in narrow_svgs.iter().enumerate() {
        let x = (index % 2) as f64 * (NARROW_WIDTH + SHEET_GAP);
        let y = (index / 2) as f64 * (HEIGHT + SHEET_GAP);
        let rest = drawing.strip_prefix("<svg ").expect("it is an element");
        let _ = write!(svg, "<svg x=\"{x}\" y=\"{y}\" width=\"{NARROW_WIDTH}\" height=\"{HEIGHT}\" {rest}");
    }
    svg + "</svg>"
}

/// An `<svg>` element as a file of its own.
pub fn standalone(svg: &str) -> String {
    with_style(svg, &format!("{STYLE}svg.plot{{background:var(--paper)}}")) + "\n"
}

pub fn with_style(svg: &str, style: &str) -> String {
    let (open, rest) = svg.split_once('>').expect("it is an element");
    format!("{open}><style>{style}</style>{rest}")
}

/// Text that stands in markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What `escape` was given.
pub fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log | Scale::Each => value.max(1e-9).log10(),
            Scale::Nines => (100.0 / (100.0 - value.clamp(0.0, 99.9999))).log10(),
        }
    }
}

impl Axis {
    /// Lowest and highest place, and where the grid stands.
    fn range(&self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64, Vec<f64>) {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
        if !low.is_finite() || !high.is_finite() {
            return (0.0, 1.0, vec![]);
        }
        match self.scale {
            Scale::Linear => {
                let step = step(high.max(1e-9) / 5.0);
                let top = (high / step).ceil().max(1.0) * step;
                let ticks = (0..).map(|i| i as f64 * step).take_while(|tick| *tick <= top * 1.0001).collect();
                (0.0, top, ticks)
            }
            Scale::Log => {
                let (bottom, top) = (low.max(1e-3).log10().floor(), (high.max(1e-3) * 0.9999).log10().ceil());
                let top = top.max(bottom + 1.0);
                let decades = bottom as i32..=top as i32;
                let fine: &[f64] = if top - bottom <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let ticks = decades.flat_map(|decade| fine.iter().map(move |part| part * 10f64.powi(decade)));
                (bottom, top, ticks.filter(|tick| tick.log10() <= top + 1e-9).collect())
            }
            Scale::Each => {
                let mut ticks: Vec<f64> = values.collect();
                ticks.sort_by(f64::total_cmp);
                ticks.dedup();
                (Scale::Each.place(low), Scale::Each.place(high), ticks)
            }
            Scale::Nines => {
                let ticks = vec![0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
                let top = Scale::Nines.place(high).max(1.0);
                (0.0, top, ticks.into_iter().filter(|tick| Scale::Nines.place(*tick) <= top + 1e-9).collect())
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least this.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power).find(|step| *step >= least * 0.9999).unwrap_or(power)
}

/// At most so many points; of each group the highest value stays, since that is what a plot of latency must not lose.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |group: &[(f64, f64)]| group.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(group).filter_map(highest).collect()
}

impl Chart {
    /// The `<svg>` element.
    pub fn svg(&self) -> String {
        self.drawn(WIDTH)
    }

    /// The same with less room: the legend stands below the title.
    pub fn narrow_svg(&self) -> String {
        self.drawn(NARROW_WIDTH)
    }

    fn drawn(&self, width: f64) -> String {
        let (legend, legend_lines) = self.legend(width);
        let top = TOP + legend_lines as f64 * LEGEND_LINE_HEIGHT;
        let all = || self.series.iter().flat_map(|series| &series.points);
        let (x_low, mut x_high, x_ticks) = self.x.range(all().map(|point| point.0));
        if self.x.scale == Scale::Linear {
            // A run need not end at a round second.
            x_high = all().map(|point| point.0).fold(0.0, f64::max).min(x_high);
        }
        let x_ticks = x_ticks.into_iter().filter(|tick| self.x.scale.place(*tick) <= x_high + 1e-9);
        let (y_low, y_high, y_ticks) = self.y.range(all().map(|point| point.1).filter(|value| *value > 0.0));
        let (x_span, y_span) = ((x_high - x_low).max(1e-9), (y_high - y_low).max(1e-9));
        let x = |value: f64| LEFT + (self.x.scale.place(value) - x_low) / x_span * (width - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - (self.y.scale.place(value) - y_low) / y_span * (HEIGHT - top - BOTTOM);
        let mut svg = String::new();
        let title = escape(&self.title);
        let _ = write!(
            svg,
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}\"><text class=\"title\" x=\"{}\" y=\"18\">{title}</text>",
            if legend_lines == 0 { LEFT } else { RIGHT }
        );
        let (bottom, right) = (HEIGHT - BOTTOM, width - RIGHT);
        for (from, upto) in &self.shaded {
            let (from, upto) = (x(*from).max(LEFT), x(*upto).min(right));
            let (width, height) = ((upto - from).max(0.0), bottom - top);
            let _ = write!(
                svg,
                "<rect class=\"shade\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
            );
        }
        for tick in y_ticks {
            let (at, text) = (y(tick), escape(&(self.y.text)(tick)));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"muted\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        let mut label_end = f64::NEG_INFINITY;
        for tick in x_ticks {
            let (at, text) = (x(tick), escape(&(self.x.text)(tick)));
            let _ = write!(svg, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>");
            // Labels that would lie on one another are left out; the grid shows that they are there.
            let half = text.chars().count() as f64 * LETTER_WIDTH / 2.0;
            if at - half > label_end {
                label_end = at + half;
                let _ = write!(
                    svg,
                    "<text class=\"muted\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                    bottom + 18.0
                );
            }
        }
        let _ = write!(
            svg,
            "<text class=\"muted\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 8.0,
            escape(self.x.label)
        );
        for (place, series) in self.series.iter().enumerate() {
            self.draw(&mut svg, place % 5, series, &x, &y);
        }
        svg.push_str(&legend);
        svg.push_str("</svg>");
        svg
    }

    fn draw(&self, svg: &mut String, colour: usize, series: &Series, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) {
        let points = thinned(&series.points);
        // Where nothing was measured the line breaks off: on a log scale zero has no place.
        let is_drawn = |point: &(f64, f64)| self.y.scale != Scale::Log || point.1 > 0.0;
        for run in points.split(|point| !is_drawn(point)).filter(|run| !run.is_empty()) {
            let path: Vec<String> = run.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let dashed = if series.is_dashed { " dashed" } else { "" };
            let _ = write!(svg, "<polyline class=\"line s{colour}{dashed}\" points=\"{}\"/>", path.join(" "));
        }
        if points.len() > DOTTED_MAX {
            return;
        }
        for point in points.iter().filter(|point| is_drawn(point)) {
            let _ = write!(
                svg,
                "<circle class=\"f{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"><title>{}: {} at {}</title></circle>",
                x(point.0),
                y(point.1),
                escape(&series.name),
                escape(&(self.y.text)(point.1)),
                escape(&(self.x.text)(point.0))
            );
        }
    }

    /// On the right of the title's line if there is room, otherwise on lines of its own below; and how many those are.
    fn legend(&self, width: f64) -> (String, usize) {
        let widths = || self.series.iter().map(|series| 36.0 + LETTER_WIDTH * series.name.chars().count() as f64);
        let all: f64 = widths().sum();
        let title = LEFT + 8.0 * self.title.chars().count() as f64;
        let (mut at, mut line, begin) = match title + all <= width - RIGHT {
            true => (width - RIGHT - all, 0, 0.0),
            false => (RIGHT, 1, RIGHT),
        };
        let mut svg = String::new();
        for (place, (series, entry)) in self.series.iter().zip(widths()).enumerate() {
            if line > 0 && at > begin && at + entry > width {
                (at, line) = (begin, line + 1);
            }
            let y = 18.0 + line as f64 * LEGEND_LINE_HEIGHT;
            let dashed = if series.is_dashed { " dashed" } else { "" };
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{y}\">{}</text><line class=\"line s{}{dashed}\" x1=\"{:.1}\" x2=\"{:.1}\" \
                 y1=\"{:.1}\" y2=\"{:.1}\"/>",
                at + 22.0,
                escape(&series.name),
                place % 5,
                at,
                at + 17.0,
                y - 4.0,
                y - 4.0
            );
            at += entry;
        }
        (svg, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, scale: Scale) -> Chart {
        let text: fn(f64) -> String = |value| value.to_string();
        Chart {
            title: "a < b".into(),
            x: Axis { label: "s", scale: Scale::Linear, text },
            y: Axis { label: "us", scale, text },
            series: vec![Series { name: "p99".into(), points, is_dashed: false }],
            shaded: vec![(0.0, 1.0)],
        }
    }

    #[test]
    fn higher_values_stand_higher_and_text_is_escaped() {
        let svg = chart(vec![(0.0, 10.0), (10.0, 1000.0)], Scale::Log).svg();
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN"));
        assert_eq!(unescape(&escape("a < b & \"&lt;\"")), "a < b & \"&lt;\"");
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        // 10 to 1000 on a log scale: the first at the bottom, the last on top.
        assert_eq!(points, "74.0,284.0 844.0,34.0");
    }

    #[test]
    fn a_grid_stands_where_the_values_are() {
        let mut chart = chart(vec![(16.0, 1.0), (64.0, 2.0), (1024.0, 3.0)], Scale::Linear);
        (chart.x.scale, chart.shaded) = (Scale::Each, vec![]);
        let svg = chart.svg();
        assert!(svg.contains("points=\"74.0,") && svg.contains(" 844.0,"), "{svg}");
        assert!(["16", "64", "1024"].iter().all(|value| svg.contains(&format!(">{value}</text>"))), "{svg}");
    }

    #[test]
    fn a_sheet_holds_every_drawing_at_a_place_of_its_own() {
        let drawing = chart(vec![(0.0, 1.0), (1.0, 2.0)], Scale::Linear).narrow_svg();
        let file = standalone(&sheet(&vec![drawing; 3]));
        assert_eq!((file.matches("<svg ").count(), file.matches("</svg>").count()), (4, 4));
        for place in ["x=\"0\" y=\"0\"", "x=\"440\" y=\"0\"", "x=\"0\" y=\"350\""] {
            assert!(file.contains(place), "{place}");
        }
        assert!(file.contains("viewBox=\"0 0 860 680\"><style>"));
    }

    #[test]
    fn a_chart_of_nothing_is_drawn_too() {
        for scale in [Scale::Linear, Scale::Log, Scale::Each, Scale::Nines] {
            let svg = chart(vec![], scale).svg();
            assert!(svg.ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf"));
        }
        assert!(!chart(vec![(0.0, 0.0); 3], Scale::Linear).svg().contains("NaN"));
    }

    #[test]
    fn the_light_style_has_neither_variables_nor_media() {
        let style = light_style();
        assert!(!style.contains("var(") && !style.contains("@media") && !style.contains("currentColor"), "{style}");
        assert!(
            style.contains(".plot .s0{stroke:#2563eb}") && style.contains(".plot .letters{fill:#1f2933}"),
            "{style}"
        );
    }

    #[test]
    fn a_narrow_chart_has_its_legend_below_the_title_and_no_label_on_another() {
        let mut chart = chart(vec![(0.0, 1.0), (100.0, 2.0)], Scale::Linear);
        chart.series = vec![chart.series[0].clone(); 8];
        chart.x.text = |value| format!("{value} of something long");
        let (wide, narrow) = (chart.svg(), chart.narrow_svg());
        assert!(wide.contains("viewBox=\"0 0 860 330\"") && narrow.contains("viewBox=\"0 0 420 330\""));
        assert!(
            wide.contains("y=\"18\">p99<") && !narrow.contains("y=\"18\">p99<") && narrow.contains("y=\"54\">p99<")
        );
        assert_eq!(narrow.matches("something long</text>").count(), 2, "{narrow}");
    }

    #[test]
    fn thinning_keeps_the_spikes() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|i| (i as f64, if i == 5003 { 99.0 } else { 1.0 })).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX && thin.contains(&(5003.0, 99.0)));
    }

    #[test]
    fn grid_steps_are_round() {
        assert_eq!([step(0.7), step(1.0), step(13.0), step(21.0)], [1.0, 1.0, 20.0, 50.0]);
    }
}
