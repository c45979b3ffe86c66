//! No field of the schemas is left out of the cells: those of `testdata/fields`, as Istio's schemas have them.

use super::{matrix, reach, tokens};
use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn each_field_of_the_schemas_has_cells() {
    let cells = [
        ("AuthorizationPolicy", [matrix::fields(), reach::fields()].concat()),
        ("RequestAuthentication", [tokens::fields(), reach::scopes()].concat()),
    ];
    for (kind, cells) in cells {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fields").join(kind);
        let text = fs::read_to_string(path).expect("a list of fields");
        let (schema, cells): (BTreeSet<&str>, BTreeSet<&str>) =
            (text.lines().collect(), cells.iter().map(String::as_str).collect());
        let missing: Vec<_> = schema.difference(&cells).collect();
        let unknown: Vec<_> = cells.difference(&schema).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{kind}: no cell for {missing:?}, no field {unknown:?}");
    }
}
