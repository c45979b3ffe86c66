//! Pages of metrics in Prometheus' text form.

use std::fmt::{Debug, Display, Write as _};

/// Something that is measured.
pub trait Measured: Debug + Send + Sync {
    /// Adds what was measured so far.
    fn write(&self, page: &mut Page);
}

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A family of counters: only ever growing.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    /// A family of gauges.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    /// A histogram: how many values lie within each bound (and in the one beyond the last), and their sum.
    pub fn histogram(&mut self, (name, help): (&str, &str), bounds: &[f64], counts: &[u64], sum: f64) {
        drop(self.family(name, help, "histogram"));
        let mut all = 0;
        for (i, count) in counts.iter().enumerate() {
            all += count;
            let bound = bounds.get(i).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {all}");
        }
        let _ = write!(self.0, "{name}_sum {sum}\n{name}_count {all}\n");
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) -> Family<'_> {
        // Writing to a text does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: &mut self.0, name: name.to_owned() }
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut String,
    name: String,
}

impl Family<'_> {
    /// The metric's value without labels.
    pub fn value(self, value: impl Display) {
        let _ = writeln!(self.page, "{} {value}", self.name);
    }

    /// A value under labels.
    pub fn with(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        let _ = writeln!(self.page, "{}{{{}}} {value}", self.name, labels.join(","));
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_families_have_their_head() {
        let mut page = Page::default();
        page.gauge("up", "Whether.").value(1);
        page.counter("pushes", "How many.").with(&[("type", "a\"b\\\n")], 2);
        assert_eq!(
            page.into_text(),
            "# HELP up Whether.\n# TYPE up gauge\nup 1\n# HELP pushes How many.\n# TYPE pushes counter\npushes{type=\"a\\\"b\\\\\\n\"} 2\n"
        );
    }
}
