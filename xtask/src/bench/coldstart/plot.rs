//! A plot as SVG, written by hand: bars with their range, and a waterfall of phases below.
//!
//! All text is escaped, and every number is finite: what is not is drawn as nothing.

use std::fmt::Write;

use serde_json::Value;

/// A part of a start, in milliseconds since it began.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    pub(super) name: String,
    pub(super) start_ms: f64,
    pub(super) ms: f64,
}

impl Phase {
    /// The phases in a timing document of `holdfast run`.
    pub(super) fn all_of(timing: &Value) -> Vec<Self> {
        let phases = timing["phases"].as_array().map(Vec::as_slice);
        let phase = |value: &Value| {
            Some(Self {
                name: value["name"].as_str()?.to_owned(),
                start_ms: value["start_ms"].as_f64()?,
                ms: value["ms"].as_f64()?,
            })
        };
        phases
            .unwrap_or_default()
            .iter()
            .filter_map(phase)
            .collect()
    }
}

/// One contender's seconds.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) median: f64,
    pub(super) range: (f64, f64),
    pub(super) remark: String,
}

#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
    pub(super) phases: Vec<Phase>,
}

const WIDTH: f64 = 860.0;
/// Where bars begin: names are left of it.
const LEFT: f64 = 270.0;
/// What is kept free for the number right of a bar.
const RIGHT: f64 = 130.0;
const LINE: f64 = 26.0;
const TOP: f64 = 44.0;

impl Plot {
    pub(super) fn svg(&self) -> String {
        let lines = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * LINE;
        let waterfall = TOP + lines(self.bars.len()) + LINE;
        let height = waterfall + TOP + lines(self.phases.len());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
        );
        text(&mut svg, 16.0, 24.0, &self.title);
        let longest = self.bars.iter().map(|bar| bar.range.1).fold(0.0, f64::max);
        for (number, bar) in self.bars.iter().enumerate() {
            draw_bar(&mut svg, TOP + lines(number), bar, scale(longest));
        }
        if !self.phases.is_empty() {
            let title = "Phases of the cold start in the middle, in milliseconds";
            text(&mut svg, 16.0, waterfall + 24.0, title);
        }
        let ends = self.phases.iter().map(|phase| phase.start_ms + phase.ms);
        let end = ends.fold(0.0, f64::max);
        for (number, phase) in self.phases.iter().enumerate() {
            draw_phase(&mut svg, waterfall + TOP + lines(number), phase, scale(end));
        }
        svg + "</svg>\n"
    }
}

/// Points per unit when the longest has to fit.
fn scale(longest: f64) -> f64 {
    if longest > 0.0 {
        (WIDTH - LEFT - RIGHT) / longest
    } else {
        0.0
    }
}

fn draw_bar(svg: &mut String, y: f64, bar: &Bar, scale: f64) {
    text(svg, 16.0, y + 15.0, &bar.name);
    let fill = if bar.name.starts_with("holdfast") {
        "#2f6f9f"
    } else {
        "#b9bec4"
    };
    rectangle(svg, (LEFT, y + 3.0), (bar.median * scale, 16.0), fill);
    let (least, most) = (LEFT + bar.range.0 * scale, LEFT + bar.range.1 * scale);
    let middle = y + 11.0;
    rectangle(svg, (least, middle - 0.75), (most - least, 1.5), "#222222");
    for end in [least, most] {
        rectangle(svg, (end - 0.75, middle - 4.0), (1.5, 8.0), "#222222");
    }
    let label = format!("{:.2} s {}", bar.median, bar.remark);
    text(svg, most.max(LEFT) + 8.0, y + 15.0, label.trim_end());
}

fn draw_phase(svg: &mut String, y: f64, phase: &Phase, scale: f64) {
    text(svg, 16.0, y + 15.0, &phase.name);
    let start = LEFT + phase.start_ms * scale;
    rectangle(
        svg,
        (start, y + 3.0),
        ((phase.ms * scale).max(1.0), 16.0),
        "#2f6f9f",
    );
    let label = format!("{:.0}", phase.ms);
    text(svg, start + phase.ms * scale + 8.0, y + 15.0, &label);
}

fn rectangle(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
    if [x, y, width, height]
        .iter()
        .all(|number| number.is_finite())
    {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\"/>",
            width.max(0.0)
        );
    }
}

fn text(svg: &mut String, x: f64, y: f64, words: &str) {
    if x.is_finite() && y.is_finite() {
        let words = escape(words);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
    }
}

/// Text of an element: nothing in it ends the element, and no control character is in it.
fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Bar, Phase, Plot, escape};

    #[test]
    fn nothing_in_a_text_ends_it() {
        for (words, escaped) in [
            ("plain é", "plain é"),
            ("</text><script>", "&lt;/text&gt;&lt;script&gt;"),
            ("a & \"b\"", "a &amp; &quot;b&quot;"),
            ("one\ntwo\u{1b}[m", "one two [m"),
        ] {
            assert_eq!(escape(words), escaped);
        }
    }

    #[test]
    fn a_plot_has_its_bars_to_scale_and_escapes_its_names() {
        let bar = |name: &str, median, range| Bar {
            name: name.to_owned(),
            median,
            range,
            remark: String::new(),
        };
        let plot = Plot {
            title: "a < b".to_owned(),
            bars: vec![
                bar("holdfast", 1.0, (0.5, 2.0)),
                bar("peer", 4.0, (4.0, 4.0)),
            ],
            phases: Phase::all_of(&json!({"phases": [
                {"name": "mount & run", "start_ms": 10.0, "ms": 90.0}, {"name": "broken"}
            ]})),
        };
        let svg = plot.svg();
        for part in [
            "a &lt; b",
            "mount &amp; run",
            "x=\"270.0\" y=\"47.0\" width=\"115.0\"",
            "x=\"270.0\" y=\"73.0\" width=\"460.0\"",
            "x=\"316.0\"",
        ] {
            assert!(svg.contains(part), "{part} is not in {svg}");
        }
        assert!(!svg.contains("broken") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn what_was_not_measured_draws_nothing_that_is_no_number() {
        let bar = Bar {
            name: "none".to_owned(),
            median: f64::NAN,
            range: (f64::NAN, f64::NAN),
            remark: "not measured".to_owned(),
        };
        let plot = Plot {
            title: String::new(),
            bars: vec![bar],
            phases: Vec::new(),
        };
        let svg = plot.svg();
        assert!(
            !svg.contains("x=\"NaN") && !svg.contains("width=\"NaN"),
            "{svg}"
        );
    }
}
