#!/usr/bin/env bash
# Fuzzes each target for a minute, or for as many seconds as the first argument says: `bash fuzz/run.sh 600 output`.
# Needs `cargo install cargo-fuzz` and a C++ compiler. On the stable toolchain there is no sanitizer to build with,
# and this crate has no unsafe code that one could find fault with.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
(($#)) || set -- output header pipeline cursor
for target in "$@"; do
    echo "fuzz/run.sh: $target for $seconds s"
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -max_len=4096 \
        -len_control=0 -timeout=10 -rss_limit_mb=1024
done
