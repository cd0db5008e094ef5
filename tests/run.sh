#!/usr/bin/env bash
# Runs all tests, with whatever they need: `bash tests/run.sh`, or with arguments for nextest: `bash tests/run.sh page`.
#
# Brings up: Debian's packages (as root; anybody else is told which are missing), Node packages and Python packages below
# the repository, and a Postgres of its own where none answers on 127.0.0.1:5432. Nothing is ever skipped.
#
# For the tests it sets
#   RUNQL_TEST_POSTGRES_URL  a superuser's URL; taken as it is where it is set already
#   CHROMIUM                 the browser's path
#   PATH                     with aws, moto_server and cargo-nextest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# The tests want GraphiQL itself, not the page that stands in where it could not be fetched.
export RUNQL_GRAPHIQL="${RUNQL_GRAPHIQL:-required}"

say() { printf '%s\n' "tests/run.sh: $*"; }
die() {
    printf '%s\n' "tests/run.sh: $*" >&2
    exit 1
}
need() { command -v "$1" >/dev/null || die "$1 is missing: install Debian's package $2"; }

# Runs a command once for each content of a file: `once STAMP FILE COMMAND…`.
once() {
    local stamp=$1 file=$2
    shift 2
    cmp -s "$file" "$stamp" && return
    "$@" || die "failed: $*"
    cp "$file" "$stamp"
}

# ── Programs ─────────────────────────────────────────────────────────────────────────────────────
need cargo rustup
bash tests/packages.sh
CHROMIUM="${CHROMIUM:-$(command -v chromium || true)}"
[[ -x "$CHROMIUM" ]] || die "chromium is missing: install Debian's package chromium"
export CHROMIUM

venv=target/venv
mkdir -p target
[[ -x $venv/bin/pip ]] || python3 -m venv "$venv" || die "no Python environment: install Debian's package python3-venv"
pip_install() { "$venv/bin/pip" install --quiet --no-compile --disable-pip-version-check -r "$1"; }
for requirements in .ci/requirements.txt tests/*/requirements.txt; do
    once "$venv/$(tr / _ <<<"$requirements")" "$requirements" pip_install "$requirements"
done
PATH="$PWD/$venv/bin:$PATH"
export PATH

for lock in tests/*/package-lock.json; do
    folder=$(dirname "$lock")
    once "$folder/node_modules/.installed-lock.json" "$lock" npm ci --prefix "$folder" --no-audit --no-fund --silent
done

# ── Postgres ─────────────────────────────────────────────────────────────────────────────────────
source tests/postgres_up.sh

# ── Tests ────────────────────────────────────────────────────────────────────────────────────────
if (($# > 0)); then
    cargo nextest run --workspace "$@"
    exit
fi
# Both run, so that one's failure does not hide the other's; nextest comes last, for its summary to close the output.
failed=0
cargo test --workspace --doc --quiet || failed=1
cargo nextest run --workspace || failed=1
exit "$failed"
