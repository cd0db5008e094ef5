//! What holds for every text that is handed over as a cursor: tried with random ones by the tests here and by `fuzz/`.

use super::{Cursor, Files, URL_SAFE_NO_PAD, check_sum};
use crate::domain::JobId;
use crate::store::{JobOrder, JobOrderField};
use base64::Engine as _;
use uuid::Uuid;

/// Reads bytes as a cursor, as they are and with a check sum that is right, and insists on what always holds.
pub(crate) fn hold_for(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        hold_for_text(text);
    }
    let mut body = data.to_vec();
    body.extend(check_sum(data));
    hold_for_text(&URL_SAFE_NO_PAD.encode(body));
}

fn hold_for_text(text: &str) {
    let order = JobOrder {
        field: JobOrderField::CreatedAt,
        descending: true,
    };
    // Each listing takes what is its own, and refuses the rest in words.
    let taken = [
        Cursor::job(text, order).is_ok(),
        Cursor::event(text).is_ok(),
        Cursor::log(text, JobId::from_uuid(Uuid::nil())).is_ok(),
        Cursor::file(text, Files::Scripts).is_ok(),
        Cursor::file(text, Files::Pipelines).is_ok(),
    ];
    assert!(taken.iter().filter(|&&taken| taken).count() <= 1);
    if let Ok(cursor) = Cursor::decode(text) {
        assert_eq!(cursor.encode(), text, "two texts for one place");
    } else {
        assert_eq!(taken, [false; 5]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn whatever_is_handed_over(
            version in prop_oneof![4 => Just(super::super::VERSION), 1 => any::<u8>()],
            kind in prop_oneof![8 => proptest::sample::select(&b"jelsp"[..]), 1 => any::<u8>()],
            order in 0_u8..10,
            place in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            hold_for(&place);
            hold_for(&[&[version, kind][..], &place].concat());
            hold_for(&[&[version, kind, order][..], &place].concat());
            for length in [8, 16, 24, 28] {
                let exact: Vec<u8> = place.iter().copied().cycle().take(length).collect();
                hold_for(&[&[version, kind][..], &exact].concat());
                hold_for(&[&[version, kind, order][..], &exact].concat());
            }
        }
    }
}
