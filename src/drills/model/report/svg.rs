//! The timeline picture: acknowledged and failed writes and their latency over time, events marked.

use std::fmt::Write as _;

use super::{
    super::{events::EventKind, history::Stream, times::millis},
    BUCKET_MS, Bucket, DrillRun,
    junit::escape,
    text::seconds,
};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Labels of events above the panels: so many rows, so high each.
const LABEL_ROWS: usize = 8;
const LABEL: f64 = 15.0;
const PANEL: f64 = 92.0;
const GAP: f64 = 26.0;

/// Draws a run.
pub fn timeline(run: &DrillRun) -> String {
    let longest = run.series.iter().map(|series| series.buckets.len()).max().unwrap_or(0).max(1);
    let span_ms = (longest as u64 * BUCKET_MS) as f64;
    let x = |ms: f64| LEFT + (ms / span_ms).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let top = LABEL_ROWS as f64 * LABEL + 12.0;
    let bottom = top + run.series.len() as f64 * 2.0 * (PANEL + GAP) - GAP;
    let height = bottom + 34.0;

    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"Timeline of {}: {}\">",
        escape(&run.run),
        escape(&spoken(run))
    );
    outage(&mut svg, run, &x, top, bottom);
    let mut y = top;
    for series in &run.series {
        rate_panel(&mut svg, series.stream, &series.buckets, run.rate, &x, y);
        y += PANEL + GAP;
        latency_panel(&mut svg, series.stream, &series.buckets, &x, y);
        y += PANEL + GAP;
    }
    axis(&mut svg, run, span_ms, &x, bottom);
    marks(&mut svg, run, &x, top, bottom);
    svg.push_str("</svg>\n");
    svg
}

/// What a screen reader says instead of the picture.
fn spoken(run: &DrillRun) -> String {
    let gaps = run.times.interruptions.iter().map(|interruption| {
        format!("{} interrupted for {} at the longest", interruption.stream, seconds(interruption.longest_gap_ms))
    });
    gaps.collect::<Vec<_>>().join(", ")
}

/// A band from the fault to full redundancy.
fn outage(svg: &mut String, run: &DrillRun, x: &impl Fn(f64) -> f64, top: f64, bottom: f64) {
    let from = run.times.injected_ms;
    let to = run.times.redundancy_ms.map_or(run.lasted_ms, |after| from + after);
    let _ = writeln!(
        svg,
        "<rect class=\"band\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        x(from),
        (x(to) - x(from)).max(0.0),
        bottom - top
    );
}

fn title(svg: &mut String, y: f64, text: &str, high: &str) {
    let _ = writeln!(svg, "<text class=\"panel\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>", y - 5.0, escape(text));
    let _ = writeln!(svg, "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, y + 9.0, escape(high));
    let (right, base) = (WIDTH - RIGHT, y + PANEL);
    let _ = writeln!(svg, "<line class=\"base\" x1=\"{LEFT}\" y1=\"{base:.1}\" x2=\"{right}\" y2=\"{base:.1}\"/>");
}

/// Bars are cut at four times the rate at which writes were due: what had waited is answered all at once, and would
/// make everything else look like nothing.
fn rate_panel(svg: &mut String, stream: Stream, buckets: &[Bucket], rate: f64, x: &impl Fn(f64) -> f64, y: f64) {
    let per_second = 1000.0 / BUCKET_MS as f64;
    let most = buckets.iter().map(|bucket| bucket.acknowledged + bucket.failed).max().unwrap_or(0).max(1) as f64;
    let high = most.min((4.0 * rate / per_second).max(1.0));
    let cut = if high < most { ", cut at the top" } else { "" };
    title(
        svg,
        y,
        &format!("{stream}: writes a second, acknowledged and failed{cut}"),
        &format!("{:.0}/s", high * per_second),
    );
    for (class, from) in [("ok", 0), ("bad", 1)] {
        let mut path = String::new();
        for (number, bucket) in buckets.iter().enumerate() {
            let (below, count) =
                if from == 0 { (0, bucket.acknowledged) } else { (bucket.acknowledged, bucket.failed) };
            if count == 0 {
                continue;
            }
            let at = (number as u64 * BUCKET_MS) as f64;
            let (left, right) = (x(at), x(at + BUCKET_MS as f64));
            let height = |count: u64| y + PANEL - (count as f64 / high).min(1.0) * PANEL;
            let (base, top) = (height(below), height(below + count));
            let _ = write!(path, "M{left:.1} {base:.1}V{top:.1}H{right:.1}V{base:.1}z");
        }
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
    }
}

/// Latency in a logarithmic scale from 1 ms: a commit and an outage on one picture.
fn latency_panel(svg: &mut String, stream: Stream, buckets: &[Bucket], x: &impl Fn(f64) -> f64, y: f64) {
    let high = buckets.iter().map(|bucket| bucket.max_ms).fold(10.0, f64::max);
    let decades = high.log10().ceil();
    title(svg, y, &format!("{stream}: latency, median and longest (log scale)"), &seconds(10f64.powf(decades)));
    let height = |ms: f64| y + PANEL - ms.max(1.0).log10() / decades * PANEL;
    for decade in 1..decades as u32 {
        let (line, right) = (height(10f64.powi(decade as i32)), WIDTH - RIGHT);
        let _ = writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{line:.1}\" x2=\"{right}\" y2=\"{line:.1}\"/>");
    }
    for (class, value) in [("max", (|b| b.max_ms) as fn(&Bucket) -> f64), ("median", |b| b.p50_ms)] {
        let mut path = String::new();
        let mut drawing = false;
        for (number, bucket) in buckets.iter().enumerate() {
            // Nothing was acknowledged: a hole in the line, not a zero.
            if bucket.acknowledged == 0 {
                drawing = false;
                continue;
            }
            let at = x((number as u64 * BUCKET_MS) as f64 + BUCKET_MS as f64 / 2.0);
            let _ = write!(path, "{}{at:.1} {:.1}", if drawing { 'L' } else { 'M' }, height(value(bucket)));
            if !drawing {
                path.push_str("h.1");
            }
            drawing = true;
        }
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
    }
}

fn axis(svg: &mut String, run: &DrillRun, span_ms: f64, x: &impl Fn(f64) -> f64, bottom: f64) {
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    let step = steps.into_iter().find(|step| span_ms / 1000.0 / step <= 16.0).unwrap_or(1200.0);
    let mut second = -((run.times.injected_ms / 1000.0 / step).floor() * step);
    while run.times.injected_ms + second * 1000.0 <= span_ms {
        let at = x(run.times.injected_ms + second * 1000.0);
        let _ = writeln!(
            svg,
            "<line class=\"base\" x1=\"{at:.1}\" y1=\"{bottom:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>\
             <text class=\"time\" x=\"{at:.1}\" y=\"{:.1}\">{second:.0} s</text>",
            bottom + 4.0,
            bottom + 18.0
        );
        second += step;
    }
    let _ = writeln!(
        svg,
        "<text class=\"time\" x=\"{:.1}\" y=\"{:.1}\">seconds after the fault</text>",
        WIDTH / 2.0,
        bottom + 31.0
    );
}

/// Vertical lines with their labels, in rows so that labels close to each other stay readable.
fn marks(svg: &mut String, run: &DrillRun, x: &impl Fn(f64) -> f64, top: f64, bottom: f64) {
    let mut free = [0.0_f64; LABEL_ROWS];
    for step in &run.times.steps {
        let at = x(run.times.injected_ms + step.after_ms);
        let label = format!("{} {}", step.kind.title(), seconds(step.after_ms));
        // A guess at the width of the text: there is nothing to measure it with here.
        let width = label.len() as f64 * 6.2 + 10.0;
        let (anchor, start) = if at + width > WIDTH { ("end", at - width) } else { ("start", at) };
        let row = (0..LABEL_ROWS).find(|row| free[*row] <= start).unwrap_or(LABEL_ROWS - 1);
        free[row] = start + width;
        let y = 12.0 + row as f64 * LABEL;
        let class = if step.kind == EventKind::Injected { "fault" } else { "event" };
        let offset = if anchor == "end" { -3.0 } else { 3.0 };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            (y - 9.0).min(top),
            at + offset,
            escape(&label)
        );
    }
    for event in run.events.iter().filter(|event| event.kind == EventKind::Note) {
        let at = x(millis(event.at));
        let _ = writeln!(
            svg,
            "<line class=\"note\" x1=\"{at:.1}\" y1=\"{top:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\"><title>{}</title></line>",
            escape(&event.text)
        );
    }
}
