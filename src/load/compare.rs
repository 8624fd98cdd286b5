//! Two documents side by side: what differs in what was asked, and the ratio of what was found.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::chart::escape;
use super::page::{card, head, origin};
use super::plot::{self, Plot};
use super::results::{Document, FORMAT, Run, Verdict};
use super::table;
use super::units::{short, short_mib, short_us};

pub fn run(a: &Path, b: &Path, html: Option<&Path>) -> Result<(), String> {
    let (first, second) = (read(a)?, read(b)?);
    let text = compared(&first, &second);
    let _ = std::io::stdout().write_all(text.as_bytes());
    if let Some(path) = html {
        let page = page(&first, &second);
        std::fs::write(path, page).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
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

fn compared(a: &Document, b: &Document) -> String {
    let mut text = differences(a, b);
    for first in &a.runs {
        let Some(second) = b.runs.iter().find(|run| run.point == first.point) else {
            let _ = writeln!(text, "\n{} is in the first file only", table::point(first));
            continue;
        };
        let name = if first.point.is_empty() { String::new() } else { table::point(first) };
        let _ = writeln!(text, "\n{name:<34}{:>14}{:>14}{:>9}", "A", "B", "B / A");
        for [what, x, y, ratio] in rows(first, second) {
            let _ = writeln!(text, "{what:<34}{x:>14}{y:>14}{ratio:>9}");
        }
        for (file, run) in [("A", first), ("B", second)] {
            match &run.verdict {
                Verdict::Valid => {}
                Verdict::Invalid(why) => writeln!(text, "{file} is INVALID: {why}").unwrap_or_default(),
                Verdict::Cut(why) => writeln!(text, "{file} was CUT SHORT: {why}").unwrap_or_default(),
            }
        }
    }
    text
}

/// What was found, in A, in B, and B / A.
fn rows(a: &Run, b: &Run) -> Vec<[String; 4]> {
    let row = |(what, value, tell): Figure| {
        let (x, y) = (value(a), value(b));
        (x > 0.0 && y > 0.0).then(|| [what.to_owned(), tell(x), tell(y), format!("{:.2}", y / x)])
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

/// What was not the same, so that nobody compares pears with apples unawares.
fn differences(a: &Document, b: &Document) -> String {
    let mut text = String::new();
    let floor = |document: &Document| document.floors.first().map_or(0.0, |floor| floor.loopback_round_trip_us);
    let pairs =
        [(&a.workload, &b.workload), (&a.producer, &b.producer), (&a.consumer, &b.consumer), (&a.machine, &b.machine)];
    for (first, second) in pairs {
        let keys: std::collections::BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        for key in keys {
            let value = |map: &std::collections::BTreeMap<String, String>| map.get(key).cloned().unwrap_or("–".into());
            if first.get(key) != second.get(key) {
                let _ = writeln!(text, "differs: {key}: A {}, B {}", value(first), value(second));
            }
        }
    }
    if floor(a) > 0.0 && !(0.8..=1.25).contains(&(floor(b) / floor(a))) {
        let _ = writeln!(
            text,
            "differs: the machine itself: loopback round trip {} for A, {} for B; ratios of latencies mean little",
            short_us(floor(a)),
            short_us(floor(b))
        );
    }
    text
}

fn page(a: &Document, b: &Document) -> String {
    let mut curves = Vec::new();
    for (file, document) in [("A", a), ("B", b)] {
        for run in document.runs.iter().take(1) {
            for (name, latency) in table::latencies(run).into_iter().filter(|(name, _)| name.ends_with("intended")) {
                let name = name.trim_end_matches(", from intended");
                curves.push((format!("{file} {name}"), latency.curve_us.clone(), file == "A"));
            }
        }
    }
    let mut html = String::new();
    head(&mut html, "A and B");
    for (file, document) in [("A", a), ("B", b)] {
        let _ = writeln!(html, "<p class=\"sub\">{file}: {}</p>", escape(&origin(document)));
        for run in &document.runs {
            if let Verdict::Invalid(why) | Verdict::Cut(why) = &run.verdict {
                let point = if run.point.is_empty() { String::new() } else { format!(", {}", table::point(run)) };
                let _ = writeln!(html, "<p class=\"verdict bad\">{file}{point}: {}</p>", escape(why));
            }
        }
    }
    card(&mut html, &Plot::of("percentiles", &plot::percentiles(&curves)));
    for first in &a.runs {
        let Some(second) = b.runs.iter().find(|run| run.point == first.point) else { continue };
        let title = if first.point.is_empty() { "What was found".to_owned() } else { table::point(first) };
        let _ = write!(html, "<h2>{}</h2><div class=\"card\"><table>", escape(&title));
        html.push_str("<tr><th></th><th>A</th><th>B</th><th>B / A</th></tr>");
        for [what, x, y, ratio] in rows(first, second) {
            let _ = write!(html, "<tr><td>{what}</td><td>{x}</td><td>{y}</td><td>{ratio}</td></tr>");
        }
        html.push_str("</table></div>\n");
    }
    let differences = differences(a, b);
    if !differences.is_empty() {
        html.push_str("<h2>What was not the same</h2><div class=\"card\"><table class=\"facts\">");
        for (what, values) in
            differences.lines().filter_map(|line| line.trim_start_matches("differs: ").split_once(": "))
        {
            let _ = write!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(what), escape(values));
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
        let text = compared(&a, &b);
        assert!(text.contains("differs: linger.ms: A –, B 5"), "{text}");
        let row = text.lines().find(|line| line.starts_with("records/s")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["records/s", "1.00k", "500", "0.50"]);
    }

    #[test]
    fn the_page_of_two_says_what_differs_and_needs_nothing_else() {
        let (a, mut b) = (document(&[]), document(&[]));
        b.runs[0].verdict = Verdict::Invalid("half & half".into());
        b.producer.insert("linger.ms".into(), "5".into());
        let page = page(&a, &b);
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
