# To be sourced, from the repository's root: exports RUNQL_TEST_POSTGRES_URL, a superuser's URL. Where it is not set and no
# Postgres answers on 127.0.0.1:5432, it starts one of its own, which ends with the shell; with the options of Postgres in
# `postgres_options`.

postgres_folder=
postgres_pid=
stop_postgres() {
    kill -QUIT "$postgres_pid" 2>/dev/null && wait "$postgres_pid" || true
    rm -rf "$postgres_folder" "$postgres_folder.log"
}

answers() { PGCONNECT_TIMEOUT=3 psql --no-password --quiet "$1" -c 'SELECT 1' >/dev/null 2>&1; }

start_postgres() {
    postgres_folder=$(mktemp -d)
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    bash tests/postgres.sh "$postgres_folder" "$port" "${postgres_options[@]}" >"$postgres_folder.log" 2>&1 &
    postgres_pid=$!
    trap stop_postgres EXIT
    RUNQL_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:$port/postgres
    for _ in {1..300}; do
        answers "$RUNQL_TEST_POSTGRES_URL" && return
        kill -0 "$postgres_pid" 2>/dev/null || break
        sleep 0.1
    done
    printf '%s\n' "Postgres did not start: $(tail -n 5 "$postgres_folder.log")" >&2
    exit 1
}

if [[ -z "${RUNQL_TEST_POSTGRES_URL:-}" ]]; then
    command -v psql >/dev/null || {
        printf '%s\n' "psql is missing: install Debian's package postgresql" >&2
        exit 1
    }
    RUNQL_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:5432/postgres
    answers "$RUNQL_TEST_POSTGRES_URL" || start_postgres
fi
export RUNQL_TEST_POSTGRES_URL
printf '%s\n' "Postgres at $RUNQL_TEST_POSTGRES_URL"
