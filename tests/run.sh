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
postgres_folder=
as_postgres=()
stop_postgres() {
    [[ -n "$postgres_folder" ]] || return 0
    "${as_postgres[@]}" "$postgres_bin/pg_ctl" stop --silent --mode immediate -D "$postgres_folder/data" || true
    rm -rf "$postgres_folder"
}

# Postgres refuses to run as root, so root hands it to the user that the package made, or to nobody.
start_postgres() {
    postgres_bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1) || true
    [[ -n "$postgres_bin" ]] || postgres_bin=$(dirname "$(command -v initdb || true)")
    [[ -x "$postgres_bin/initdb" ]] || die "no Postgres answers on 127.0.0.1:5432, and none is installed: install Debian's package postgresql"
    postgres_folder=$(mktemp -d)
    trap stop_postgres EXIT
    if ((EUID == 0)); then
        local user=nobody
        id -u postgres >/dev/null 2>&1 && user=postgres
        as_postgres=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
        chown "$user" "$postgres_folder"
    fi
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    (
        cd /
        "${as_postgres[@]}" "$postgres_bin/initdb" -D "$postgres_folder/data" --username postgres --auth trust \
            --encoding UTF8 --no-sync >/dev/null
        "${as_postgres[@]}" "$postgres_bin/pg_ctl" start --silent -w -D "$postgres_folder/data" -l "$postgres_folder/log" \
            -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$postgres_folder -c fsync=off -c max_connections=300"
    ) || die "Postgres did not start: $(tail -n 5 "$postgres_folder/log" 2>/dev/null)"
    RUNQL_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:$port/postgres
}

if [[ -z "${RUNQL_TEST_POSTGRES_URL:-}" ]]; then
    need psql postgresql
    RUNQL_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:5432/postgres
    if ! PGCONNECT_TIMEOUT=3 psql --no-password --quiet "$RUNQL_TEST_POSTGRES_URL" -c 'SELECT 1' >/dev/null 2>&1; then
        start_postgres
    fi
fi
export RUNQL_TEST_POSTGRES_URL
say "Postgres at $RUNQL_TEST_POSTGRES_URL"

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
