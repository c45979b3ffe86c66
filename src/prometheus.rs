//! Pages of metrics in Prometheus' text form.

use std::fmt::{Display, Write as _};

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
