//! The numbered cases of PROTOCOL §7 against the tests that there are: each of C1 to C101 has one that carries its number, so that
//! none is lost.
//!
//! Most are table tests on the core: `authentication/` (C1–C27), `redirects.rs` (C28–C32), `manifest_replies.rs` and `keeping.rs`
//! (C33–C47), `download.rs` (C48–C55), `uploads.rs` and `upload_ends.rs` (C56–C79), `list_replies.rs` (C80–C93) and the archive's own
//! (C95–C101). What is about sockets (C42, C54, C94) is in `pitfalls/` and `hostile_sockets.rs`.
//!
//! Where the core decides otherwise than a row asks, the test of that number says how and why (C47, C64, C78, C85, C101).

use std::collections::BTreeMap;

use registry_tests::numbered::{numbers, tests};

/// How many cases there are.
const CASES: u32 = 101;

#[test]
fn every_case_has_a_test() {
    let mut by_case: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for test in tests() {
        for case in numbers(&test, 'c') {
            by_case.entry(case).or_default().push(test.clone());
        }
    }
    let missing: Vec<String> =
        (1..=CASES).filter(|case| !by_case.contains_key(case)).map(|case| format!("C{case}")).collect();
    assert!(missing.is_empty(), "no test carries {}", missing.join(", "));
    let strangers: Vec<&u32> = by_case.keys().filter(|case| **case == 0 || **case > CASES).collect();
    assert!(strangers.is_empty(), "there are no such cases: {strangers:?}");
}
