//! How figures grow: each as a curve over the size that was varied, drawn with both axes in powers of ten.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 320.0;
/// What is left free for what is written beside the axes.
const EDGE: f64 = 56.0;

/// Figures by name, each measured at several sizes.
#[derive(Debug, Default)]
pub(crate) struct Curves(BTreeMap<String, Vec<(f64, f64)>>);

impl Curves {
    /// Notes what was measured at a size. What was too little to be measured has no place among powers of ten.
    pub(crate) fn add(&mut self, size: usize, figures: &BTreeMap<String, f64>) {
        for (name, value) in figures.iter().filter(|(_, value)| **value > 0.0) {
            self.0.entry(name.clone()).or_default().push((size as f64, *value));
        }
    }

    /// The exponent of each: 0 for what does not grow, 1 for what grows as the size does.
    pub(crate) fn exponents(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter(|(_, points)| points.len() > 1).map(|(name, points)| (&**name, exponent(points)))
    }

    /// Writes a drawing of each to a directory.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub(crate) fn draw(&self, over: &str, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for (name, points) in self.0.iter().filter(|(_, points)| points.len() > 1) {
            let file: String = format!("{name}-by-{over}").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            fs::write(to.join(file + ".svg"), svg(name, over, points))?;
        }
        Ok(())
    }
}

/// The slope of the line through the points, in logarithms (least squares).
fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.log10(), y.log10())).collect();
    let count = logs.len() as f64;
    let (x, y) = logs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
    let (over, under) = logs.iter().fold((0.0, 0.0), |(o, u), (a, b)| (o + (a - x) * (b - y), u + (a - x).powi(2)));
    over / under
}

/// The powers of ten that hold all values.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (i32, i32) {
    let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
    let high = values.fold(0.0, f64::max).log10().ceil() as i32;
    (low, high.max(low + 1))
}

fn svg(name: &str, over: &str, points: &[(f64, f64)]) -> String {
    let (left, right) = decades(points.iter().map(|p| p.0));
    let (low, high) = decades(points.iter().map(|p| p.1));
    let x = |value: f64| EDGE + (value - f64::from(left)) / f64::from(right - left) * (WIDTH - 2.0 * EDGE);
    let y = |value: f64| HEIGHT - EDGE - (value - f64::from(low)) / f64::from(high - low) * (HEIGHT - 2.0 * EDGE);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{EDGE}\" y=\"24\" font-size=\"14\">{name}: grows as {over} to the power of {:.2}</text>\n",
        exponent(points)
    );
    let mut line = |from: (f64, f64), to: (f64, f64)| {
        let _ = writeln!(
            out,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ccc\"/>",
            from.0, from.1, to.0, to.1
        );
    };
    for decade in left..=right {
        line((x(decade.into()), y(low.into())), (x(decade.into()), y(high.into())));
    }
    for decade in low..=high {
        line((x(left.into()), y(decade.into())), (x(right.into()), y(decade.into())));
    }
    for decade in left..=right {
        let at = (x(decade.into()), HEIGHT - EDGE + 18.0);
        let _ =
            writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", at.0, at.1, power(decade));
    }
    for decade in low..=high {
        let at = (EDGE - 6.0, y(decade.into()) + 4.0);
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", at.0, at.1, power(decade));
    }
    let place = |(a, b): &(f64, f64)| format!("{:.1},{:.1}", x(a.log10()), y(b.log10()));
    let places: Vec<String> = points.iter().map(place).collect();
    let _ =
        writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>", places.join(" "));
    for point in points {
        let (a, b) = (x(point.0.log10()), y(point.1.log10()));
        let _ = writeln!(out, "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"3\" fill=\"#06c\"/>");
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{over}</text>\n</svg>",
        WIDTH / 2.0,
        HEIGHT - 12.0
    );
    out
}

/// A power of ten as people write it.
fn power(decade: i32) -> String {
    match decade {
        0..=3 => 10i64.pow(decade.unsigned_abs()).to_string(),
        4..=6 => format!("{}k", 10i64.pow(decade.unsigned_abs() - 3)),
        _ => format!("1e{decade}"),
    }
}
