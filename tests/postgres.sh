#!/usr/bin/env bash
# A Postgres of one's own, below a folder: `bash tests/postgres.sh FOLDER PORT [OPTION…]` makes it where it is not there, and
# runs it in the foreground, as this very process: it ends with SIGINT in order, with SIGQUIT at once.
#
# It takes anybody on 127.0.0.1 as the superuser `postgres`, and does not care for the disk unless an option of Postgres
# says so: `-c fsync=on`.
set -euo pipefail
folder=$1
port=$2

die() {
    echo "tests/postgres.sh: $*" >&2
    exit 1
}

bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1) || true
[[ -n "$bin" ]] || bin=$(dirname "$(command -v initdb || true)")
[[ -x "$bin/initdb" ]] || die "no Postgres is installed: install Debian's package postgresql"

# Postgres refuses to run as root, so root hands it to the user that the package made, or to nobody.
as_postgres=()
mkdir -p "$folder"
if ((EUID == 0)); then
    user=nobody
    id -u postgres >/dev/null 2>&1 && user=postgres
    as_postgres=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
    chown "$user" "$folder"
fi
# The folder that this was called from may be closed to that user.
cd /
if [[ ! -e "$folder/data/PG_VERSION" ]]; then
    "${as_postgres[@]}" "$bin/initdb" -D "$folder/data" --username postgres --auth trust --encoding UTF8 --no-sync >/dev/null
fi
exec "${as_postgres[@]}" "$bin/postgres" -D "$folder/data" -p "$port" -c listen_addresses=127.0.0.1 \
    -c "unix_socket_directories=$folder" -c fsync=off -c max_connections=300 "${@:3}"
