//! Documents side by side: what differs in what was asked, what was found in each, and its ratio to the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::chart::escape;
use super::page::{card, head, origin};
use super::plot::{self, Curve, Plot};
use super::results::{Document, FORMAT, Run, Verdict};
use super::table;
use super::units::{short, short_mib, short_us};

/// More curves have no colours of their own.
pub const FILES_MAX: usize = 5;

/// A document and what it is called.
type Named = (String, Document);

/// `names` may be fewer than `files`: the others are called by letters.
pub fn run(files: &[PathBuf], names: &[String], html: Option<&Path>, svg: Option<&Path>) -> Result<(), String> {
    if names.len() > files.len() {
        return Err(format!("--names has {} names for {} files", names.len(), files.len()));
    }
    let letters = ('A'..).map(String::from);
    let named: Vec<Named> = files
        .iter()
        .zip(letters)
        .enumerate()
        .map(|(index, (path, letter))| Ok((names.get(index).cloned().unwrap_or(letter), read(path)?)))
        .collect::<Result<_, String>>()?;
    let _ = std::io::stdout().write_all(compared(&named).as_bytes());
    let put = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    if let Some(path) = html {
        put(path, page(&named))?;
    }
    if let Some(path) = svg {
        put(path, Plot::of("percentiles", &plot::percentiles(&curves(&named, true))).standalone())?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Document, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let wrong =
        |reason: &dyn std::fmt::Display| format!("{} is no file of gannet load --json: {reason}", path.display());
    let document: Document = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    if document.format != FORMAT {
        return Err(wrong(&format_args!("its format is {}, known is {FORMAT}", document.format)));
    }
    Ok(document)
}

fn compared(named: &[Named]) -> String {
    let mut text = String::new();
    for (what, values) in differences(named) {
        let _ = writeln!(text, "differs: {what}: {values}");
    }
    let ratios = titles(named).split_off(named.len());
    let width = |title: &String| title.chars().count().max(7) + 2;
    for point in points(named) {
        let runs = runs_at(named, point);
        let name = if point.is_empty() { String::new() } else { table::point(point) };
        let _ = write!(text, "\n{name:<26}");
        for (name, _) in named {
            let _ = write!(text, "{name:>0$}", name.chars().count().max(12) + 2);
        }
        for title in &ratios {
            let _ = write!(text, "{title:>0$}", width(title));
        }
        text.push('\n');
        for (what, values, found) in rows(&runs) {
            let _ = write!(text, "{what:<26}");
            for ((name, _), value) in named.iter().zip(&values) {
                let _ = write!(text, "{value:>0$}", name.chars().count().max(12) + 2);
            }
            for (title, ratio) in ratios.iter().zip(&found) {
                let _ = write!(text, "{ratio:>0$}", width(title));
            }
            text.push('\n');
        }
        for ((name, _), run) in named.iter().zip(&runs) {
            match run.map(|run| &run.verdict) {
                Some(Verdict::Valid) => {}
                Some(Verdict::Invalid(why)) => writeln!(text, "{name} is INVALID: {why}").unwrap_or_default(),
                Some(Verdict::Cut(why)) => writeln!(text, "{name} was CUT SHORT: {why}").unwrap_or_default(),
                None => writeln!(text, "{name} has no such point").unwrap_or_default(),
            }
        }
    }
    text
}

/// Of the columns: the documents, and each but the first divided by the first.
fn titles(named: &[Named]) -> Vec<String> {
    let names = named.iter().map(|(name, _)| name.clone());
    let ratios = named[1..].iter().map(|(name, _)| format!("{name} / {}", named[0].0));
    names.chain(ratios).collect()
}

/// What the runs of a sweep were at, in the order of the first document that has each.
fn points(named: &[Named]) -> Vec<&Vec<(String, String)>> {
    let mut points = Vec::new();
    for run in named.iter().flat_map(|(_, document)| &document.runs) {
        if !points.contains(&&run.point) {
            points.push(&run.point);
        }
    }
    points
}

fn runs_at<'a>(named: &'a [Named], point: &[(String, String)]) -> Vec<Option<&'a Run>> {
    named.iter().map(|(_, document)| document.runs.iter().find(|run| run.point == *point)).collect()
}

/// What was found, in each, and how often the first's it is in the others.
type Row = (&'static str, Vec<String>, Vec<String>);

/// What nobody found is left out.
fn rows(runs: &[Option<&Run>]) -> Vec<Row> {
    let row = |(what, value, tell): Figure| {
        let values: Vec<f64> = runs.iter().map(|run| run.map_or(0.0, value)).collect();
        let told = |value: &f64| if *value > 0.0 { tell(*value) } else { "–".to_owned() };
        let ratio = |value: &f64| match *value > 0.0 && values[0] > 0.0 {
            true => format!("{:.2}", value / values[0]),
            false => "–".to_owned(),
        };
        let is_found = values.iter().any(|value| *value > 0.0);
        is_found.then(|| (what, values.iter().map(told).collect(), values[1..].iter().map(ratio).collect()))
    };
    figures().into_iter().filter_map(row).collect()
}

type Figure = (&'static str, fn(&Run) -> f64, fn(f64) -> String);

fn figures() -> Vec<Figure> {
    vec![
        ("records/s", |run| run.rate, short),
        ("throughput", |run| run.bytes_per_s, short_mib),
        ("consumed records/s", |run| run.consumed_rate, short),
        ("records a batch", |run| run.records as f64 / run.batches.max(1) as f64, short),
        ("acknowledged p50", |run| run.acknowledged.percentile(50.0), short_us),
        ("acknowledged p99", |run| run.acknowledged.percentile(99.0), short_us),
        ("acknowledged p99.9", |run| run.acknowledged.percentile(99.9), short_us),
        ("acknowledged max", |run| run.acknowledged.max_us, short_us),
        ("end to end p50", |run| run.end_to_end.percentile(50.0), short_us),
        ("end to end p99", |run| run.end_to_end.percentile(99.0), short_us),
        ("end to end p99.9", |run| run.end_to_end.percentile(99.9), short_us),
        ("end to end max", |run| run.end_to_end.max_us, short_us),
        ("generator's cores", |run| run.generator_cores, short),
    ]
}

/// What was not the same, so that nobody compares pears with apples unawares: what, and the value of each.
fn differences(named: &[Named]) -> Vec<(String, String)> {
    let mut told = Vec::new();
    type Part = fn(&Document) -> &BTreeMap<String, String>;
    let parts: [Part; 4] = [|d| &d.workload, |d| &d.producer, |d| &d.consumer, |d| &d.machine];
    for part in parts {
        let keys: BTreeSet<&String> = named.iter().flat_map(|(_, document)| part(document).keys()).collect();
        for key in keys {
            let values: Vec<Option<&String>> = named.iter().map(|(_, document)| part(document).get(key)).collect();
            if values.iter().any(|value| *value != values[0]) {
                let each = named.iter().zip(values);
                let each = each.map(|((name, _), value)| format!("{name} {}", value.map_or("–", String::as_str)));
                told.push((key.clone(), each.collect::<Vec<_>>().join(", ")));
            }
        }
    }
    let floor = |(_, document): &Named| document.floors.first().map_or(0.0, |floor| floor.loopback_round_trip_us);
    let floors: Vec<f64> = named.iter().map(floor).filter(|floor| *floor > 0.0).collect();
    let (low, high) = (floors.iter().copied().fold(f64::MAX, f64::min), floors.iter().copied().fold(0.0, f64::max));
    if high > 1.25 * low {
        let each = named.iter().map(|named| format!("{} {}", named.0, short_us(floor(named))));
        let each = each.collect::<Vec<_>>().join(", ");
        told.push((
            "the machine itself".into(),
            format!("loopback round trip {each}; ratios of latencies mean little"),
        ));
    }
    told
}

/// Latencies from the intended times, of the first run of each. Of one kind alone a curve is called as its document is.
fn curves(named: &[Named], end_to_end_alone: bool) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (index, (name, document)) in named.iter().enumerate() {
        let Some(run) = document.runs.first() else { continue };
        let latencies = table::latencies(run).into_iter().filter(|(kind, _)| kind.ends_with(", from intended"));
        let mut latencies: Vec<_> = latencies.collect();
        if end_to_end_alone {
            // Who had no consumers is told by its acknowledgements.
            latencies = latencies.split_off(latencies.len().saturating_sub(1));
        }
        for (kind, latency) in latencies {
            let kind = kind.trim_end_matches(", from intended");
            let title = if end_to_end_alone { name.clone() } else { format!("{name} {kind}") };
            curves.push((title, latency.curve_us.clone(), index == 0 && !end_to_end_alone));
        }
    }
    curves
}

fn page(named: &[Named]) -> String {
    let mut html = String::new();
    head(&mut html, &named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" and "));
    for (name, document) in named {
        let name = escape(name);
        let _ = writeln!(html, "<p class=\"sub\">{name}: {}</p>", escape(&origin(document)));
        for run in &document.runs {
            if let Verdict::Invalid(why) | Verdict::Cut(why) = &run.verdict {
                let point =
                    if run.point.is_empty() { String::new() } else { format!(", {}", table::point(&run.point)) };
                let _ = writeln!(html, "<p class=\"verdict bad\">{name}{point}: {}</p>", escape(why));
            }
        }
    }
    // Two kinds of so many would have no colours left.
    let end_to_end_alone = named.len() > 2;
    card(&mut html, &Plot::of("percentiles", &plot::percentiles(&curves(named, end_to_end_alone))));
    for point in points(named) {
        let title = if point.is_empty() { "What was found".to_owned() } else { table::point(point) };
        let _ = write!(html, "<h2>{}</h2><div class=\"card\"><table><tr><th></th>", escape(&title));
        for title in titles(named) {
            let _ = write!(html, "<th>{}</th>", escape(&title));
        }
        html.push_str("</tr>");
        for (what, values, ratios) in rows(&runs_at(named, point)) {
            let cells: String = values.iter().chain(&ratios).map(|value| format!("<td>{value}</td>")).collect();
            let _ = write!(html, "<tr><td>{what}</td>{cells}</tr>");
        }
        html.push_str("</table></div>\n");
    }
    let differences = differences(named);
    if !differences.is_empty() {
        html.push_str("<h2>What was not the same</h2><div class=\"card\"><table class=\"facts\">");
        for (what, values) in differences {
            let _ = write!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(&what), escape(&values));
        }
        html.push_str("</table></div>\n");
    }
    html.push_str("</body></html>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plot::tests::document;

    #[test]
    fn figures_stand_side_by_side_with_their_ratio_and_what_differs_is_told() {
        let (a, mut b) = (document(&[]), document(&[]));
        b.runs[0].rate = 500.0;
        b.producer.insert("linger.ms".into(), "5".into());
        let cut = Document { runs: vec![], ..document(&[]) };
        let text = compared(&[("A".into(), a), ("our own".into(), b), ("C".into(), cut)]);
        assert!(text.contains("differs: linger.ms: A –, our own 5, C –"), "{text}");
        let row = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().split_whitespace();
        assert_eq!(row("records/s").collect::<Vec<_>>(), ["records/s", "1.00k", "500", "–", "0.50", "–"]);
        assert!(text.contains("our own / A") && text.contains("C has no such point"), "{text}");
    }

    #[test]
    fn the_page_of_two_says_what_differs_and_needs_nothing_else() {
        let (a, mut b) = (document(&[]), document(&[]));
        b.runs[0].verdict = Verdict::Invalid("half & half".into());
        b.producer.insert("linger.ms".into(), "5".into());
        let page = page(&[("A".into(), a), ("B".into(), b)]);
        assert!(page.contains("<td>linger.ms</td><td>A –, B 5</td>") && page.contains("B: half &amp; half"), "{page}");
        assert!(!page.contains("<script") && !page.contains("src=") && page.ends_with("</html>\n"));
    }

    #[test]
    fn what_is_written_as_json_is_read_back_the_same() {
        let document = document(&[("linger.ms", &["0", "5"])]);
        let json = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&json).unwrap(), document);
    }

    #[test]
    fn a_file_that_is_something_else_is_told_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(read(&path).unwrap_err().contains("no file of gannet load --json"));
        assert!(read(&directory.path().join("none")).unwrap_err().contains("cannot read"));
    }
}
