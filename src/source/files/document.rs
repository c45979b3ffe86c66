//! The text of a file as documents, each read by itself so that a broken one does not take the others with it.

use crate::parse::yaml;
use serde_json::Value;

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// Which one it is, counted from 1.
    pub(super) number: usize,
    /// What it says, or why it cannot be read.
    pub(super) content: Result<Value, String>,
}

/// The documents of a YAML text, without those that say nothing. Each is read when its turn comes: as trees, all of a
/// large file take many times its size.
pub(super) fn yaml(text: &str) -> impl Iterator<Item = Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let read = split(text).into_iter().map(|chunk| {
        let content = yaml::value(chunk.text).map_err(|e| explain(&e, chunk.line));
        Document { number: chunk.number, content }
    });
    read.filter(says_something)
}

/// The documents of a JSON text: one value, or several one after the other.
pub(super) fn json(text: &str) -> impl Iterator<Item = Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>().enumerate();
    let read = values.map(|(i, v)| Document { number: i + 1, content: v.map_err(|e| format!("is not JSON: {e}")) });
    read.filter(says_something)
}

fn says_something(document: &Document) -> bool {
    !matches!(document.content, Ok(Value::Null))
}

/// What the parser says, with the line counted from the file's start.
fn explain(error: &serde_norway::Error, first: usize) -> String {
    let text = error.to_string();
    let Some(at) = error.location() else { return format!("is not YAML: {text}") };
    let place = format!(" at line {} column {}", at.line(), at.column());
    let said = text.replacen(&place, "", 1);
    format!("is not YAML: {said} (line {} column {})", first + at.line() - 1, at.column())
}

struct Chunk<'a> {
    number: usize,
    /// The line of the file that it starts at, counted from 1.
    line: usize,
    text: &'a str,
}

/// Cuts at the lines that start or end a document. YAML reads `---` and `...` at the start of a line so
/// wherever they stand, even within a quoted text.
fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut cuts = vec![(0, 1)];
    let mut at = 0;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if marks(line, "---") {
            cuts.push((at, i + 1));
        } else if marks(line, "...") {
            cuts.push((at + line.len(), i + 2));
        }
        at += line.len();
    }
    let ends = cuts.iter().skip(1).map(|c| c.0).chain([text.len()]).collect::<Vec<_>>();
    let pieces = cuts.into_iter().zip(ends).map(|((start, line), end)| (line, &text[start..end]));
    let content = pieces.filter(|(_, piece)| piece.starts_with("---") || !is_empty(piece));
    content.enumerate().map(|(i, (line, text))| Chunk { number: i + 1, line, text }).collect()
}

fn marks(line: &str, mark: &str) -> bool {
    line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a piece says nothing: blank lines, comments and directives (`%YAML 1.2`).
fn is_empty(piece: &str) -> bool {
    piece.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with(['#', '%']) || line == "...")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good(documents: impl Iterator<Item = Document>) -> Vec<(usize, Value)> {
        documents.map(|d| (d.number, d.content.expect("a good document"))).collect()
    }

    #[test]
    fn documents_are_numbered_as_yaml_counts_them() {
        let text = "# a file\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n---\nc: 3\n";
        assert_eq!(good(yaml(text)), [(1, json!({"a": 1})), (3, json!({"b": 2})), (4, json!({"c": 3}))]);
    }

    #[test]
    fn directives_windows_lines_marks_with_content_and_a_byte_order_mark_are_read() {
        let text = "\u{feff}%YAML 1.2\r\n---\r\na: 1\r\n--- {b: 2}\r\n--- # c\r\nc: 3\r\n";
        assert_eq!(good(yaml(text)), [(1, json!({"a": 1})), (2, json!({"b": 2})), (3, json!({"c": 3}))]);
    }

    #[test]
    fn marks_count_only_at_the_start_of_a_line_and_by_themselves() {
        let text = "a: |\n  ---\n  x\nb: ----\n----c: 1\n";
        assert_eq!(good(yaml(text)), [(1, json!({"a": "---\nx\n", "b": "----", "----c": 1}))]);
    }

    #[test]
    fn a_broken_document_leaves_the_others_and_names_its_line_in_the_file() {
        let read: Vec<Document> = yaml("a: 1\n---\nb: [1\nc: 2\n---\nd: 4\n").collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].content, Ok(json!({"a": 1})));
        let message = read[1].content.as_ref().expect_err("broken");
        assert!(message.contains("line 4 ") || message.contains("line 5 "), "{message}");
        assert_eq!((read[2].number, &read[2].content), (3, &Ok(json!({"d": 4}))));
    }

    #[test]
    fn json_may_hold_several_values_and_says_where_it_ends_too_early() {
        assert_eq!(good(json("{\"a\": 1}\n{\"b\": 2}\nnull\n")), [(1, json!({"a": 1})), (2, json!({"b": 2}))]);
        let cut: Vec<Document> = json("{\"a\": 1}\n{\"b\": [1,").collect();
        assert!(cut[1].content.as_ref().expect_err("cut").contains("line 2"));
    }

    #[test]
    fn a_text_without_content_has_no_documents() {
        for text in ["", "\n\n", "---\n---\n", "# nothing\n", "null\n", "---\n...\n"] {
            assert_eq!(yaml(text).count(), 0, "{text:?}");
        }
    }
}
