//! Content negotiation: which of the forms of a GraphQL response a client takes.

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};

/// The two forms of a response that is one JSON document. They differ in what the status code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/graphql-response+json`: a request that was not executed has a status of 4xx or 5xx.
    GraphqlResponse,
    /// `application/json`, for clients of old: whatever is a GraphQL response has status 200.
    Json,
}

impl MediaType {
    pub(super) const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        })
    }
}

/// What the client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accept {
    /// The form of a single response, if the client takes one.
    pub(super) single: Option<MediaType>,
    /// Whether it takes server-sent events. It has to say so by name: `*/*` is no request for a stream.
    pub(super) event_stream: bool,
}

/// How a range of the header fits a media type, the better the higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Anything,
    Type,
    Exact,
}

impl Accept {
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let values: Vec<&str> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        if values.iter().all(|value| value.trim().is_empty()) {
            return Self {
                single: Some(MediaType::Json),
                event_stream: false,
            };
        }
        let ranges: Vec<Range<'_>> = values
            .iter()
            .flat_map(|value| value.split(','))
            .filter_map(Range::parse)
            .collect();
        let graphql = weight(&ranges, "application", "graphql-response+json");
        let json = weight(&ranges, "application", "json");
        let stream = weight(&ranges, "text", "event-stream");

        // At equal weight the newer form wins only if the client named it; a wildcard is no proof of knowing it.
        let single = match (graphql, json) {
            (Some(graphql), Some(json)) if graphql >= json && graphql.1 == Fit::Exact => {
                Some(MediaType::GraphqlResponse)
            }
            (Some(graphql), Some(json)) if graphql.0 > json.0 => Some(MediaType::GraphqlResponse),
            (_, Some(_)) => Some(MediaType::Json),
            (Some(_), None) => Some(MediaType::GraphqlResponse),
            (None, None) => None,
        };
        Self {
            single,
            event_stream: stream.is_some_and(|(_, fit)| fit == Fit::Exact),
        }
    }

    /// The form of a response that cannot be what the client asked for, such as a refusal of its `Accept` itself.
    pub(super) fn single_or_json(self) -> MediaType {
        self.single.unwrap_or(MediaType::Json)
    }
}

/// The weight that the most specific fitting range gives to a media type, in thousandths; none if it is refused.
fn weight(ranges: &[Range<'_>], main: &str, sub: &str) -> Option<(u16, Fit)> {
    let best = ranges
        .iter()
        .filter_map(|range| Some((range.fit(main, sub)?, range.weight)))
        .max()?;
    (best.1 > 0).then_some((best.1, best.0))
}

struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    weight: u16,
}

impl<'a> Range<'a> {
    /// Reads one element of the header. Parameters but `q` and `charset` make it a media type we do not offer.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (main, sub) = parts.next()?.split_once('/')?;
        let mut weight = 1000;
        for parameter in parts.filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=')?;
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                let quality: f32 = value.parse().ok()?;
                // Exact: the value is clamped to 0..=1000 before the cast.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped to 0..=1000"
                )]
                let thousandths = (quality.clamp(0.0, 1.0) * 1000.0) as u16;
                weight = thousandths;
            } else if !(name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")) {
                return None;
            }
        }
        Some(Self {
            main: main.trim(),
            sub: sub.trim(),
            weight,
        })
    }

    fn fit(&self, main: &str, sub: &str) -> Option<Fit> {
        match (self.main, self.sub) {
            ("*", "*") => Some(Fit::Anything),
            (own, "*") if own.eq_ignore_ascii_case(main) => Some(Fit::Type),
            (own, own_sub) if own.eq_ignore_ascii_case(main) && own_sub.eq_ignore_ascii_case(sub) => {
                Some(Fit::Exact)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> (Option<MediaType>, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(value));
        let accept = Accept::from_headers(&headers);
        (accept.single, accept.event_stream)
    }

    #[test]
    fn the_clients_preference_decides() {
        use MediaType::{GraphqlResponse, Json};
        for (header, single, event_stream) in [
            ("", Some(Json), false),
            ("*/*", Some(Json), false),
            ("application/*", Some(Json), false),
            ("application/json", Some(Json), false),
            ("APPLICATION/JSON; charset=UTF-8", Some(Json), false),
            ("application/graphql-response+json", Some(GraphqlResponse), false),
            (
                "application/graphql-response+json, application/json",
                Some(GraphqlResponse),
                false,
            ),
            (
                "application/json, application/graphql-response+json",
                Some(GraphqlResponse),
                false,
            ),
            (
                "application/graphql-response+json;q=0.5, application/json",
                Some(Json),
                false,
            ),
            (
                "application/graphql-response+json, application/json;q=0.9",
                Some(GraphqlResponse),
                false,
            ),
            ("application/json, */*", Some(Json), false),
            ("application/graphql-response+json;q=0, */*", Some(Json), false),
            ("application/json;q=0, */*;q=0.1", Some(GraphqlResponse), false),
            ("text/event-stream", None, true),
            ("text/event-stream, application/json", Some(Json), true),
            ("text/html", None, false),
            ("application/json; q=0", None, false),
            ("application/json; profile=x", None, false),
            ("nonsense", None, false),
        ] {
            assert_eq!(accept(header), (single, event_stream), "{header}");
        }
        assert_eq!(
            Accept::from_headers(&HeaderMap::new()),
            Accept {
                single: Some(Json),
                event_stream: false
            }
        );
    }
}
