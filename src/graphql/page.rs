//! Pages after Relay's specification of connections: what `first`, `after`, `last` and `before` ask for, and what
//! each listing answers with.

use async_graphql::SimpleObject;

use super::error::{ApiError, ApiResult};
use crate::store::PageRequest;

/// Entries of a page where neither `first` nor `last` is given.
pub(super) const DEFAULT_SIZE: usize = 50;

/// The arguments of a listing, as they come.
#[derive(Debug, Clone, Default)]
pub(super) struct PageArgs {
    pub(super) first: Option<i32>,
    pub(super) after: Option<String>,
    pub(super) last: Option<i32>,
    pub(super) before: Option<String>,
}

impl PageArgs {
    /// Those of a listing that is only paged forwards.
    pub(super) fn forward(first: Option<i32>, after: Option<String>) -> Self {
        Self {
            first,
            after,
            ..Self::default()
        }
    }

    /// What the store is asked for. `place` reads a cursor of this listing.
    pub(super) fn request<K>(
        &self,
        max_size: usize,
        place: impl Fn(&str) -> ApiResult<K>,
    ) -> ApiResult<PageRequest<K>> {
        let (size, from_end) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(ApiError::input(
                    "`first` and `last` cannot be given together: `first` pages forwards, `last` backwards.",
                ));
            }
            (Some(first), None) => (size("first", first, max_size)?, false),
            (None, Some(last)) => (size("last", last, max_size)?, true),
            (None, None) => (DEFAULT_SIZE.min(max_size), false),
        };
        Ok(PageRequest {
            limit: size as u64,
            after: self.after.as_deref().map(&place).transpose()?,
            before: self.before.as_deref().map(&place).transpose()?,
            from_end,
        })
    }
}

/// How many entries an argument asks for.
pub(super) fn size(argument: &str, wanted: i32, max_size: usize) -> ApiResult<usize> {
    let size = usize::try_from(wanted)
        .map_err(|_| ApiError::input(format!("`{argument}` is {wanted}, and cannot be negative.")))?;
    if size > max_size {
        let message =
            format!("`{argument}` is {size}; a page of this server has at most {max_size} entries.");
        return Err(ApiError::limit(message));
    }
    Ok(size)
}

/// Where a page lies in its listing.
#[derive(Debug, Clone, Default, SimpleObject)]
pub(super) struct PageInfo {
    /// Whether entries follow this page. When paging backwards it says whether `before` was given.
    pub(super) has_next_page: bool,
    /// Whether entries come before this page. When paging forwards it says whether `after` was given.
    pub(super) has_previous_page: bool,
    /// The cursor of the first entry, for `before`; null where the page is empty.
    pub(super) start_cursor: Option<String>,
    /// The cursor of the last entry, for `after`; null where the page is empty.
    pub(super) end_cursor: Option<String>,
}

/// Declares a connection and its edge: the two types that every listing has under its own names.
macro_rules! connection {
    (
        $(#[doc = $connection_doc:tt])* $connection:ident,
        $(#[doc = $edge_doc:tt])* $edge:ident of $node:ty,
        $(nodes: $nodes:ty,)?
        $(source: $source:ty,)? { $($extra:tt)* }
    ) => {
        $(#[doc = $edge_doc])*
        #[derive(async_graphql::SimpleObject)]
        pub(in crate::graphql) struct $edge {
            /// Its place, for `after` and `before`.
            cursor: String,
            /// The entry itself.
            node: $node,
        }

        pub(in crate::graphql) struct $connection {
            edges: Vec<$edge>,
            page_info: $crate::graphql::page::PageInfo,
            $(
                /// What the fields beyond those of every connection are made from.
                source: $source,
            )?
        }

        impl $connection {
            /// A page of entries, each with its cursor.
            pub(in crate::graphql) fn new(
                entries: impl IntoIterator<Item = (String, $node)>,
                has_previous_page: bool,
                has_next_page: bool,
                $(source: $source,)?
            ) -> Self {
                let edges: Vec<$edge> =
                    entries.into_iter().map(|(cursor, node)| $edge { cursor, node }).collect();
                let page_info = $crate::graphql::page::PageInfo {
                    has_next_page,
                    has_previous_page,
                    start_cursor: edges.first().map(|edge| edge.cursor.clone()),
                    end_cursor: edges.last().map(|edge| edge.cursor.clone()),
                };
                Self { edges, page_info, $(source: { let source: $source = source; source },)? }
            }
        }

        $(#[doc = $connection_doc])*
        #[async_graphql::Object]
        impl $connection {
            /// The entries of this page, each with its cursor.
            async fn edges(&self) -> &[$edge] {
                &self.edges
            }

            /// The entries of this page, for those who need no cursor for each.
            async fn nodes(&self) -> $crate::graphql::page::either!($([$nodes])? [Vec<&$node>]) {
                self.edges.iter().map(|edge| &edge.node).collect()
            }

            /// Where this page lies in the listing.
            async fn page_info(&self) -> &$crate::graphql::page::PageInfo {
                &self.page_info
            }

            $($extra)*
        }
    };
}
pub(super) use connection;

/// The first of two types, where there are two.
macro_rules! either {
    ([$first:ty] $([$second:ty])?) => {
        $first
    };
}
pub(super) use either;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(first: Option<i32>, last: Option<i32>) -> ApiResult<PageRequest<usize>> {
        let args = PageArgs {
            first,
            last,
            ..PageArgs::default()
        };
        args.request(100, |text| Ok(text.len()))
    }

    fn refusal(first: Option<i32>, last: Option<i32>) -> String {
        let error = async_graphql::Error::from(request(first, last).unwrap_err());
        let code = error.extensions.as_ref().and_then(|all| all.get("code")).cloned();
        format!("{} {}", code.unwrap(), error.message)
    }

    #[test]
    fn a_page_has_a_size_and_a_direction() {
        let sizes = |first, last| {
            let page = request(first, last).unwrap();
            (page.limit, page.from_end)
        };
        assert_eq!(sizes(None, None), (50, false));
        assert_eq!(sizes(Some(7), None), (7, false));
        assert_eq!(sizes(None, Some(7)), (7, true));
        assert_eq!(sizes(Some(0), None), (0, false));
        assert_eq!(sizes(Some(100), None), (100, false));
    }

    #[test]
    fn what_cannot_be_a_page_is_refused_in_words() {
        assert_eq!(
            refusal(Some(-1), None),
            r#""BAD_USER_INPUT" `first` is -1, and cannot be negative."#
        );
        assert_eq!(
            refusal(None, Some(101)),
            r#""LIMIT_EXCEEDED" `last` is 101; a page of this server has at most 100 entries."#
        );
        assert!(refusal(Some(1), Some(1)).starts_with(r#""BAD_USER_INPUT" `first` and `last`"#));
    }

    #[test]
    fn places_are_read_by_the_listing() {
        let args = PageArgs {
            after: Some("abc".to_owned()),
            before: Some("de".to_owned()),
            ..PageArgs::default()
        };
        let page = args.request(10, |text| Ok(text.len())).unwrap();
        assert_eq!((page.limit, page.after, page.before), (10, Some(3), Some(2)));
        assert!(
            args.request(10, |_| Err::<usize, _>(ApiError::input("no")))
                .is_err()
        );
    }
}
