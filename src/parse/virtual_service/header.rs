//! Changes of headers.

use super::Parser;
use crate::{
    api::virtual_service as api,
    model::{HeaderChanges, HeaderOperations},
    parse::text,
    problem::FieldPath,
};
use std::{collections::BTreeMap, sync::Arc};

impl Parser<'_> {
    pub(super) fn header_changes(&mut self, path: &FieldPath, raw: Option<&api::Headers>) -> HeaderChanges {
        let Some(raw) = raw else { return HeaderChanges::default() };
        let mut changes = HeaderChanges::default();
        if let Some(request) = &raw.request {
            changes.request = self.operations(&path.field("request"), request, true);
            let authority = |map: &BTreeMap<String, String>| {
                map.iter().filter(|(name, _)| is_authority(name)).map(|(_, v)| v.as_str().into()).next_back()
            };
            changes.authority = authority(&request.set).or_else(|| authority(&request.add));
        }
        if let Some(response) = &raw.response {
            changes.response = self.operations(&path.field("response"), response, false);
        }
        changes
    }

    fn operations(&mut self, path: &FieldPath, raw: &api::HeaderOperations, request: bool) -> HeaderOperations {
        for (i, name) in raw.remove.iter().enumerate() {
            self.name_changed(&path.field("remove").index(i), name, false);
        }
        HeaderOperations {
            set: self.values(&path.field("set"), &raw.set, request),
            add: self.values(&path.field("add"), &raw.add, request),
            remove: raw.remove.iter().map(|n| n.as_str().into()).collect(),
        }
    }

    fn values(
        &mut self,
        path: &FieldPath,
        raw: &BTreeMap<String, String>,
        authority: bool,
    ) -> Vec<(Arc<str>, Arc<str>)> {
        for (name, value) in raw {
            self.name_changed(&path.key(name), name, authority);
            self.take(&path.key(name), text::header_value(value));
        }
        let plain = raw.iter().filter(|(name, _)| !is_authority(name));
        plain.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
    }

    fn name_changed(&mut self, path: &FieldPath, name: &str, authority: bool) {
        if is_authority(name) {
            if !authority {
                self.found
                    .error(path, format!("{name} cannot be changed here; it can only be set or added in requests"));
            }
        } else if name.starts_with(':') {
            self.found.error(path, format!("{name} cannot be changed; write the name of a header without a colon"));
        } else if name.is_empty() {
            self.found.error(path, "is the name of no header; write one");
        } else {
            self.take(path, text::header_name(name));
        }
    }

    /// The host can be changed in one place only.
    pub(super) fn one_authority(&mut self, path: &FieldPath, raw: &api::HttpRoute) {
        let request = raw.headers.as_ref().and_then(|h| h.request.as_ref());
        let rewrite = raw.rewrite.as_ref().filter(|r| !r.authority.is_empty()).map(|r| r.authority.as_str());
        let headers = request.into_iter().flat_map(|r| r.set.iter().chain(&r.add));
        let values: Vec<&str> =
            rewrite.into_iter().chain(headers.filter(|(n, _)| is_authority(n)).map(|(_, v)| v.as_str())).collect();
        if let [first, .., last] = values[..] {
            let message =
                format!("changes the host in several places, to {first} and to {last}; keep rewrite.authority alone");
            self.found.error(path, message);
        }
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}
