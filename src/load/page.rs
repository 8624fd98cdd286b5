//! A document as one page that needs nothing else: no script, no other file, no network.

use std::fmt::Write;

use super::chart::{STYLE, escape};
use super::plot::{self, Plot};
use super::results::{Document, PERCENTILES, Run, Verdict};
use super::table;
use super::units::{short, short_mib, short_us};

const PAGE_STYLE: &str = "
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;padding:28px 20px 60px;max-width:960px;color:#1f2933;background:#f8f9fa}
h1{font-size:24px;margin:0 0 2px}h2{font-size:17px;margin:34px 0 10px}.sub{color:#616e7c;margin:0 0 18px}
.verdict{padding:10px 14px;border-radius:8px;margin:14px 0;font-weight:600}
.good{background:#d1fae5;color:#065f46}.bad{background:#fee2e2;color:#991b1b}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:10px;margin:16px 0}
.tile,.card{background:#fff;border:1px solid #e4e7eb;border-radius:8px}
.tile{padding:10px 14px}.tile b{display:block;font-size:20px;font-variant-numeric:tabular-nums}
.tile span{color:#616e7c;font-size:13px}.card{padding:12px;margin:12px 0;overflow-x:auto}
.card svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:4px 6px;text-align:right;border-bottom:1px solid #e4e7eb;white-space:nowrap}
td:first-child,th:first-child{text-align:left}tr:last-child td{border-bottom:0}th{font-weight:600;color:#616e7c}
.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}.facts td:first-child{color:#616e7c;width:34%}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.narrow{display:none}
@media(max-width:640px){body{padding:18px 10px 40px}.wide{display:none}.narrow{display:block}.whole svg{min-width:600px}
.facts td{font-size:13px}.facts td:first-child{width:48%}.tiles{grid-template-columns:repeat(auto-fit,minmax(130px,1fr))}}
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#0f1114}.tile,.card{background:#16191d;border-color:#2c3138}
td,th{border-color:#2c3138}.sub,.tile span,th,.facts td:first-child{color:#9aa5b1}
.good{background:#064e3b;color:#d1fae5}.bad{background:#7f1d1d;color:#fee2e2}}
@media print{body{background:#fff}.card{break-inside:avoid}}
";

pub fn page(document: &Document) -> String {
    let mut html = String::new();
    head(&mut html, &format!("Load on {}", document.workload.get("topic").map_or("", String::as_str)));
    let _ = writeln!(html, "<p class=\"sub\">{}</p>", escape(&origin(document)));
    for run in &document.runs {
        verdict(&mut html, run);
    }
    if document.runs.len() > 1 && document.runs.iter().all(|run| run.verdict == Verdict::Valid) {
        let held = "runs, and each held its rate";
        let _ = writeln!(html, "<p class=\"verdict good\">{} {held}</p>", document.runs.len());
    }
    if let [run] = &document.runs[..] {
        tiles(&mut html, run);
    }
    for plot in plot::plots(document) {
        card(&mut html, &plot);
    }
    match &document.runs[..] {
        [run] => {
            latencies(&mut html, run);
            findings(&mut html, run);
        }
        runs => points(&mut html, runs),
    }
    facts(&mut html, document);
    html.push_str("</body></html>\n");
    html
}

/// One plot, as wide as the screen lets it be.
pub fn card(html: &mut String, plot: &Plot) {
    let wide = &plot.svg;
    let _ = match &plot.narrow_svg {
        Some(narrow) => writeln!(
            html,
            "<div class=\"card\"><div class=\"wide\">{wide}</div><div class=\"narrow\">{narrow}</div></div>"
        ),
        None => writeln!(html, "<div class=\"card whole\">{wide}</div>"),
    };
}

/// The beginning of a page, as far as its title.
pub fn head(html: &mut String, title: &str) {
    let title = escape(title);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title>\n<style>{PAGE_STYLE}{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n"
    );
}

/// When, against whom and by what a document was made.
pub fn origin(document: &Document) -> String {
    let (date, version) = (date(document.started_ms), &document.gannet_version);
    format!("{date} · broker {} · gannet {version}", document.cluster.brokers.join(", "))
}

/// `2026-11-22 00:30 UTC` of milliseconds since 1970.
fn date(ms: i64) -> String {
    let (days, minutes) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 60_000);
    let (mut year, mut rest) = (1970, days);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while rest >= 365 + i64::from(is_leap(year)) {
        rest -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02} {:02}:{:02} UTC", rest + 1, minutes / 60, minutes % 60)
}

fn verdict(html: &mut String, run: &Run) {
    let of = if run.point.is_empty() { String::new() } else { format!("{}: ", table::point(&run.point)) };
    let text = match &run.verdict {
        Verdict::Valid => None,
        Verdict::Invalid(why) => Some(format!("{of}invalid: {why}")),
        Verdict::Cut(why) => Some(format!("{of}cut short: {why}")),
    };
    if let Some(text) = text {
        let _ = writeln!(html, "<p class=\"verdict bad\">{}</p>", escape(&text));
    } else if run.point.is_empty() {
        let rate = match run.target_rate {
            _ if !run.steps.is_empty() => format!("A ramp of {} steps", run.steps.len()),
            Some(target) => format!("The rate was held: {}/s of {}/s", short(run.rate), short(target)),
            None => format!("{}/s at the maximum", short(run.rate)),
        };
        let _ = writeln!(html, "<p class=\"verdict good\">{}</p>", escape(&rate));
    }
    if let Some(faults) = &run.verify {
        let class = if faults.is_clean() { "good" } else { "bad" };
        let _ = writeln!(
            html,
            "<p class=\"verdict {class}\">{of}{} records verified: {} lost, {} duplicated, {} reordered, {} corrupt</p>",
            faults.checked, faults.lost, faults.duplicated, faults.reordered, faults.corrupt
        );
    }
}

fn tiles(html: &mut String, run: &Run) {
    let us = |records: u64, us: f64| if records == 0 { "–".to_owned() } else { short_us(us) };
    let (ack, all) = (&run.acknowledged, &run.end_to_end);
    let tiles = [
        (format!("{}/s", short(run.rate)), "records"),
        (short_mib(run.bytes_per_s), "throughput"),
        (us(ack.records, ack.percentile(50.0)), "acknowledged p50"),
        (us(ack.records, ack.percentile(99.0)), "acknowledged p99"),
        (us(ack.records, ack.percentile(99.9)), "acknowledged p99.9"),
        (us(ack.records, ack.max_us), "acknowledged max"),
        (us(all.records, all.percentile(50.0)), "end to end p50"),
        (us(all.records, all.percentile(99.0)), "end to end p99"),
        (format!("{:.1} %", run.blocked * 100.0), "blocked on buffer.memory"),
        (format!("{:.2}", run.generator_cores), "cores of the generator"),
    ];
    html.push_str("<div class=\"tiles\">");
    for (value, name) in tiles {
        let _ = write!(html, "<div class=\"tile\"><b>{}</b><span>{name}</span></div>", escape(&value));
    }
    html.push_str("</div>\n");
}

fn latencies(html: &mut String, run: &Run) {
    html.push_str("<h2>Latency</h2><div class=\"card\"><table><tr><th></th>");
    for percentile in PERCENTILES {
        let _ = write!(html, "<th>p{percentile}</th>");
    }
    html.push_str("<th>max</th><th>mean</th></tr>");
    for (name, latency) in table::latencies(run) {
        let _ = write!(html, "<tr><td title=\"{} records\">{name}</td>", latency.records);
        for us in latency.percentiles_us.iter().chain([&latency.max_us, &latency.mean_us]) {
            let _ = write!(html, "<td>{}</td>", short_us(*us));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>\n");
}

fn findings(html: &mut String, run: &Run) {
    let named = run.verify.iter().flat_map(|faults| &faults.named).cloned();
    let errors = table::errors(run).into_iter().map(|(name, count)| format!("{name}: {count}"));
    let all: Vec<String> = run.notes.iter().cloned().chain(errors).chain(named).collect();
    if all.is_empty() {
        return;
    }
    html.push_str("<h2>Notes and errors</h2><div class=\"card\"><table class=\"facts\">");
    for finding in all {
        let _ = write!(html, "<tr><td style=\"width:100%\">{}</td></tr>", escape(&finding));
    }
    html.push_str("</table></div>\n");
}

/// The points of a sweep.
fn points(html: &mut String, runs: &[Run]) {
    html.push_str(
        "<h2>Points</h2><div class=\"card\"><table><tr><th></th><th>records/s</th><th>throughput</th><th>ack p50</th>\
         <th>ack p99</th><th>e2e p99</th><th>records a batch</th></tr>",
    );
    for run in runs {
        let us = |us: f64| if us.is_nan() { "–".to_owned() } else { short_us(us) };
        let _ = write!(
            html,
            "<tr><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td></tr>",
            escape(&table::point(&run.point)),
            match run.verdict {
                Verdict::Valid => "",
                Verdict::Invalid(_) => " – invalid",
                Verdict::Cut(_) => " – cut short",
            },
            short(run.rate),
            short_mib(run.bytes_per_s),
            us(run.acknowledged.percentile(50.0)),
            us(run.acknowledged.percentile(99.0)),
            us(run.end_to_end.percentile(99.0)),
            run.records as f64 / run.batches.max(1) as f64
        );
    }
    html.push_str("</table></div>\n");
}

fn facts(html: &mut String, document: &Document) {
    let mut section = |name: &str, rows: &mut dyn Iterator<Item = (String, String)>| {
        let _ = write!(html, "<h2>{name}</h2><div class=\"card\"><table class=\"facts\">");
        for (key, value) in rows {
            let _ = write!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(&key), escape(&value));
        }
        html.push_str("</table></div>\n");
    };
    let owned = |(key, value): (&String, &String)| (key.clone(), value.clone());
    section("Workload", &mut document.workload.iter().map(owned));
    section("Producer", &mut document.producer.iter().map(owned));
    section("Consumer", &mut document.consumer.iter().map(owned));
    let floors = document.floors.iter().enumerate().map(|(index, floor)| {
        let write =
            floor.durable_write_us.map_or(String::new(), |us| format!(", durable 4 KiB write {}", short_us(us)));
        let when = if index == 0 { "floor before" } else { "floor after" };
        let round_trip = short_us(floor.loopback_round_trip_us);
        (when.to_owned(), format!("loopback round trip {round_trip}{write}, load average {}", floor.load_average))
    });
    section("Generator's machine", &mut document.machine.iter().map(owned).chain(floors));
    let _ = writeln!(html, "<p class=\"sub\"><code>gannet {}</code></p>", escape(&document.command.join(" ")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plot::tests::document;

    #[test]
    fn a_page_needs_nothing_else_and_escapes_what_it_is_told() {
        let mut document = document(&[]);
        document.runs[0].notes.push("<script>alert(1)</script>".into());
        document.runs[0].verdict = Verdict::Invalid("half & half".into());
        let page = page(&document);
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
        assert!(page.contains("invalid: half &amp; half"));
    }

    #[test]
    fn dates_are_told_as_people_read_them() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(1_709_164_800_000), "2024-02-29 00:00 UTC");
        assert_eq!(date(1_795_307_440_000), "2026-11-22 00:30 UTC");
    }
}
