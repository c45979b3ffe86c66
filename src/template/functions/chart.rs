//! The functions of Helm, which go before those of sprig with the same names. (`include` and `tpl` run templates, so they are
//! not here.)

use super::{Table, at, count, data, print, string};

pub(super) const TABLE: Table = &[
    ("toYaml", |a| Ok(print::text(&data::yaml(at(a, 0)?)?).trim_end_matches('\n').into())),
    ("indent", |a| {
        let space = " ".repeat(count(a, 0)?.min(1000));
        Ok(format!("{space}{}", string(a, 1)?.replace('\n', &format!("\n{space}"))).into())
    }),
];
