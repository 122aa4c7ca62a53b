#!/usr/bin/env bash
# Starts a PostgreSQL server of its own on a free port in a new temporary folder. Prints `PORT FOLDER` when it
# answers; the socket and the certificates are in the folder. Takes the commands `kill` and `start` on standard
# input, and answers each with `done`. Ends when standard input is closed, and leaves nothing behind.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || {
    echo "PostgreSQL is missing; tests/tools.sh installs it" >&2
    exit 1
}
folder=$(mktemp -d -t keepalive-postgres-XXXXXX)
# The server refuses to run as root.
as_server() {
    if [ "$(id -u)" = 0 ]; then (cd "$folder" && runuser -u postgres -- "$@"); else "$@"; fi
}
stop() {
    as_server "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT

"$here/certificates.sh" "$folder"
chmod 755 "$folder"
[ "$(id -u)" != 0 ] || chown -R postgres "$folder"
as_server "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
cat >>"$folder/data/postgresql.conf" <<CONFIGURATION
listen_addresses = '127.0.0.1'
unix_socket_directories = '$folder'
fsync = off
max_connections = 200
ssl = on
ssl_cert_file = '$folder/server.pem'
ssl_key_file = '$folder/server.key'
timezone = 'America/New_York'
CONFIGURATION
cat >"$folder/data/pg_hba.conf" <<ACCESS
local all all trust
host all all 127.0.0.1/32 scram-sha-256
ACCESS

start() {
    as_server "$bin/pg_ctl" -D "$folder/data" -w -t 60 -o "-p $1" -l "$folder/log" start >/dev/null 2>&1
}
for _ in 1 2 3 4 5 6 7 8 9 10; do
    port=$((20000 + RANDOM % 12000))
    if start "$port"; then break; fi
    port=
done
[ -n "$port" ] || {
    cat "$folder/log" >&2
    exit 1
}
"$bin/psql" -q -h "$folder" -p "$port" -U postgres -d postgres \
    -c "CREATE ROLE keeper LOGIN PASSWORD 'invented-password'" -c "GRANT CREATE ON DATABASE postgres TO keeper"
echo "$port $folder"
while read -r command; do
    case "$command" in
        kill) as_server "$bin/pg_ctl" -D "$folder/data" -w -m immediate stop >/dev/null 2>&1 ;;
        start) start "$port" ;;
    esac
    echo "done"
done
