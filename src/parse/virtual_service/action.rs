//! What rules for HTTP do with a request: send it somewhere, send the client elsewhere, answer it.

use super::{Parser, retries, said};
use crate::{
    api::virtual_service as api,
    model::{
        Body, Destination, DirectResponse, HttpAction, HttpRule, ObjectKey, Redirect, RedirectPort, Rewrite, Share,
    },
    parse::{regex, text, value::is_dns_label},
    problem::FieldPath,
};

impl Parser<'_> {
    pub(super) fn http(&mut self, path: &FieldPath, raw: &api::HttpRoute) -> HttpRule {
        self.check_combination(path, raw);
        self.one_authority(path, raw);
        let at = path.field("match");
        HttpRule {
            name: raw.name.as_str().into(),
            matches: raw.r#match.iter().enumerate().map(|(i, m)| self.condition(&at.index(i), m)).collect(),
            action: self.action(path, raw),
            rewrite: raw.rewrite.as_ref().map(|r| self.rewrite(&path.field("rewrite"), r)),
            timeout: self.found.positive_duration(&path.field("timeout"), raw.timeout.as_ref()),
            retries: raw.retries.as_ref().map(|r| retries(&mut self.found, &path.field("retries"), r)),
            fault: raw.fault.as_ref().map(|f| self.fault(&path.field("fault"), f)),
            mirrors: self.mirrors(path, raw),
            cors: raw.cors_policy.as_ref().map(|c| self.cors(&path.field("corsPolicy"), c)),
            headers: self.header_changes(&path.field("headers"), raw.headers.as_ref()),
        }
    }

    /// What may stand beside what.
    fn check_combination(&mut self, path: &FieldPath, raw: &api::HttpRoute) {
        let (redirect, respond) = (raw.redirect.is_some(), raw.direct_response.is_some());
        let (route, delegate) = (!raw.route.is_empty(), raw.delegate.is_some());
        if delegate && self.delegate {
            let message =
                "is in a VirtualService that others delegate to (it has no hosts), which cannot delegate further";
            self.found.error(&path.field("delegate"), message);
            return;
        }
        let actions = [("route", route), ("redirect", redirect), ("directResponse", respond), ("delegate", delegate)];
        let present: Vec<&str> = actions.iter().filter(|(_, p)| *p).map(|(n, _)| *n).collect();
        match present[..] {
            [] => self.found.error(path, "does nothing; write one of route, redirect, directResponse and delegate"),
            [_] => {}
            [..] => self.found.error(path, format!("has {}; write one of them", present.join(" and "))),
        }
        for (field, there) in [("fault", raw.fault.is_some()), ("rewrite", raw.rewrite.is_some())] {
            if there && (redirect || respond) {
                self.found.error(&path.field(field), "needs a route: requests that go nowhere cannot have it");
            }
        }
        if raw.mirror.is_some() && !raw.mirrors.is_empty() {
            self.found.error(&path.field("mirror"), "stands beside mirrors; move it into that list");
        }
    }

    fn action(&mut self, path: &FieldPath, raw: &api::HttpRoute) -> HttpAction {
        if let Some(delegate) = &raw.delegate {
            return self.delegate_to(&path.field("delegate"), delegate);
        }
        if let Some(redirect) = &raw.redirect {
            return HttpAction::Redirect(self.redirect(&path.field("redirect"), redirect, &raw.r#match));
        }
        match &raw.direct_response {
            Some(response) => HttpAction::Respond(self.respond(&path.field("directResponse"), response)),
            None => HttpAction::Route(self.destinations(&path.field("route"), &raw.route)),
        }
    }

    fn delegate_to(&mut self, path: &FieldPath, raw: &api::Delegate) -> HttpAction {
        if raw.name.is_empty() {
            self.found.error(&path.field("name"), "is missing; write the name of the VirtualService without hosts");
        }
        let namespace = match raw.namespace.as_str() {
            "" => self.namespace.clone(),
            name => name.into(),
        };
        HttpAction::Delegate(ObjectKey { namespace, name: raw.name.as_str().into() })
    }

    fn destinations(&mut self, path: &FieldPath, raw: &[api::HttpDestination]) -> Vec<Destination> {
        let mut all = Vec::new();
        for (i, entry) in raw.iter().enumerate() {
            let at = path.index(i);
            let weight = self.weight(&at.field("weight"), entry.weight);
            let headers = self.header_changes(&at.field("headers"), entry.headers.as_ref());
            let destination = self.destination(&at.field("destination"), entry.destination.as_ref());
            all.extend(destination.map(|d| Destination { weight, headers, ..d }));
        }
        self.check_weights(path, raw.iter().map(|d| d.weight));
        all
    }

    pub(super) fn weight(&mut self, path: &FieldPath, weight: i64) -> u32 {
        let fits = u32::try_from(weight)
            .map_err(|_| format!("{weight} is not a weight; write a number from 0 to {}", u32::MAX));
        self.take(path, fits).unwrap_or_default()
    }

    /// Several destinations need shares; one has all.
    pub(super) fn check_weights(&mut self, path: &FieldPath, weights: impl ExactSizeIterator<Item = i64>) {
        let several = weights.len() > 1;
        let sum = weights.fold(0i64, i64::saturating_add);
        if several && sum == 0 {
            self.found.error(path, "has several destinations of weight 0; give at least one of them a weight");
        } else if sum > i64::from(u32::MAX) {
            self.found.error(path, format!("has weights of {sum} together; at most {} are allowed", u32::MAX));
        }
    }

    pub(super) fn destination(&mut self, path: &FieldPath, raw: Option<&api::Destination>) -> Option<Destination> {
        let Some(raw) = raw else {
            self.found.error(path, "is missing; write the host that requests go to");
            return None;
        };
        let at = path.field("host");
        if raw.host == "*" {
            self.found.error(&at, "`*` is no place to send to; write the host of a service");
        }
        if !raw.subset.is_empty() && !is_dns_label(&raw.subset.to_ascii_lowercase()) {
            let message =
                format!("{:?} is not the name of a subset; write letters, digits and inner hyphens", raw.subset);
            self.found.error(&path.field("subset"), message);
        }
        let host = self.host(&at, &raw.host)?;
        let number = path.field("port").field("number");
        Some(Destination {
            host,
            subset: raw.subset.as_str().into(),
            port: raw.port.as_ref().and_then(|p| self.found.port(&number, p.number)),
            weight: 0,
            headers: crate::model::HeaderChanges::default(),
        })
    }

    fn rewrite(&mut self, path: &FieldPath, raw: &api::Rewrite) -> Rewrite {
        let uri = said(&raw.uri);
        let authority = said(&raw.authority);
        self.take(&path.field("uri"), text::line(&raw.uri));
        self.take(&path.field("authority"), text::line(&raw.authority));
        if uri.is_none() && authority.is_none() && raw.uri_regex_rewrite.is_none() {
            self.found.error(path, "changes nothing; write uri, uriRegexRewrite or authority");
        }
        let uri_regex = raw.uri_regex_rewrite.as_ref().map(|r| {
            let at = path.field("uriRegexRewrite");
            if uri.is_some() {
                self.found.error(&at, "stands beside uri; write one of them");
            }
            self.take(&at.field("match"), regex::check(&r.r#match));
            if r.rewrite.is_empty() {
                self.found.error(&at.field("rewrite"), "is missing; write what takes the place of the matched path");
            }
            (r.r#match.as_str().into(), r.rewrite.as_str().into())
        });
        Rewrite { uri, uri_regex, authority }
    }

    fn redirect(&mut self, path: &FieldPath, raw: &api::Redirect, matches: &[api::HttpMatch]) -> Redirect {
        let nothing = [&raw.uri, &raw.prefix_rewrite, &raw.authority, &raw.scheme].iter().all(|t| t.is_empty());
        if nothing && raw.port.is_none() && raw.derive_port.is_none() {
            self.found.error(path, "sends the client to where it is; write uri, authority, scheme or port");
        }
        if !raw.prefix_rewrite.is_empty() {
            let at = path.field("prefixRewrite");
            let other = |m: &api::HttpMatch| m.uri.as_ref().is_some_and(|u| u.prefix.is_none());
            if !raw.uri.is_empty() {
                self.found.error(&at, "stands beside uri; write one of them");
            }
            if matches.iter().any(other) {
                self.found.error(&at, "needs a prefix to replace; compare every uri of this rule with prefix");
            }
        }
        if !matches!(raw.scheme.as_str(), "" | "http" | "https") {
            let message = format!("{:?} is not a scheme to send clients to; write http or https", raw.scheme);
            self.found.error(&path.field("scheme"), message);
        }
        for (field, value) in [("uri", &raw.uri), ("prefixRewrite", &raw.prefix_rewrite), ("authority", &raw.authority)]
        {
            self.take(&path.field(field), text::line(value));
        }
        Redirect {
            uri: said(&raw.uri),
            prefix: said(&raw.prefix_rewrite),
            authority: said(&raw.authority),
            scheme: said(&raw.scheme),
            port: self.redirect_port(path, raw),
            code: self.redirect_code(&path.field("redirectCode"), raw.redirect_code),
        }
    }

    fn redirect_port(&mut self, path: &FieldPath, raw: &api::Redirect) -> RedirectPort {
        if raw.port.is_some() && raw.derive_port.is_some() {
            self.found.error(&path.field("derivePort"), "stands beside port; write one of them");
        }
        match (raw.port, raw.derive_port.as_deref()) {
            (Some(0), _) | (None, None | Some("FROM_PROTOCOL_DEFAULT")) => RedirectPort::Default,
            (Some(number), _) => {
                self.found.port(&path.field("port"), number).map_or(RedirectPort::Default, RedirectPort::Number)
            }
            (None, Some("FROM_REQUEST_PORT")) => RedirectPort::FromRequest,
            (None, Some(other)) => {
                let message = format!("{other:?} is not known; write FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT");
                self.found.error(&path.field("derivePort"), message);
                RedirectPort::Default
            }
        }
    }

    fn redirect_code(&mut self, path: &FieldPath, code: i64) -> u16 {
        match u16::try_from(code) {
            Ok(0) => 301,
            Ok(code @ (301 | 302 | 303 | 307 | 308)) => code,
            _ => {
                let message = format!("{code} is not a status that sends clients on; write 301, 302, 303, 307 or 308");
                self.found.error(path, message);
                301
            }
        }
    }

    fn respond(&mut self, path: &FieldPath, raw: &api::DirectResponse) -> DirectResponse {
        let status = self.status(&path.field("status"), raw.status);
        let at = path.field("body");
        let body = raw.body.as_ref().and_then(|body| match (&body.string, &body.bytes) {
            (Some(_), Some(_)) => {
                self.found.error(&at, "has both string and bytes; write one of them");
                None
            }
            (Some(text), None) => Some(Body::Text(text.as_str().into())),
            (None, Some(text)) => {
                self.take(&at.field("bytes"), text::base64(text)).map(|bytes| Body::Bytes(bytes.into()))
            }
            (None, None) => None,
        });
        let size = match &body {
            Some(Body::Text(text)) => text.len(),
            Some(Body::Bytes(bytes)) => bytes.len(),
            None => 0,
        };
        if size > 1024 * 1024 {
            self.found.error(&at, format!("has {size} bytes; at most 1048576 are allowed"));
        } else if size > 100 * 1024 {
            self.found
                .warn(&at, format!("has {size} bytes, which every proxy holds; serve it from a workload instead"));
        }
        DirectResponse { status, body }
    }

    /// A status that the proxy can answer with.
    pub(super) fn status(&mut self, path: &FieldPath, status: i64) -> u16 {
        let fits = u16::try_from(status).ok().filter(|s| (200..600).contains(s));
        let fits = fits.ok_or_else(|| format!("{status} is not a final HTTP status; write a number from 200 to 599"));
        self.take(path, fits).unwrap_or(500)
    }

    /// A share in percent, with fractions.
    pub(super) fn share(&mut self, path: &FieldPath, raw: &api::Percent) -> Share {
        Share::Millionths(self.take(&path.field("value"), text::millionths(raw.value)).unwrap_or_default())
    }
}
