#!/usr/bin/env bash
# Runs a PostgreSQL server of its own for one test program, as long as standard input stays open.
#
# It lies in a new directory, listens on a Unix socket there and on a free port of 127.0.0.1, and prints
# `ready DIRECTORY PORT`. In the directory are the certificates (see certificates.sh) and password, the password of
# two roles: `keepalive`, which owns the database `keepalive` and must use TLS, and `keeper`, which may make schemas in
# the database `postgres` and comes in without TLS too. The role `postgres` needs none on the socket, nor does any role
# that a test makes, in the database `postgres`.
# Lines on standard input:
#   kill     every process of the server gets SIGKILL; answers `killed`
#   start    starts it again on the same data; answers `ready DIRECTORY PORT`
#   end      as if standard input had ended
# When standard input ends, for whatever reason, the server is killed and everything removed.
set -euo pipefail

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIRECTORY=
SERVER=

main() {
    local programs password
    programs=$(programs)
    DIRECTORY=$(mktemp -d -t oauth-keepalive-postgres-XXXXXX)
    trap clean_up EXIT
    PORT=$("$SCRIPTS/free_port.py")
    "$SCRIPTS/certificates.sh" "$DIRECTORY"
    password=$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')
    echo "$password" >"$DIRECTORY/password"
    chmod 755 "$DIRECTORY"
    own "$DIRECTORY"
    as_server "$programs/initdb" --pgdata "$DIRECTORY/data" --username postgres --auth trust --encoding UTF8 \
        --locale C --no-sync >&2
    settings
    start "$programs"
    "$programs/psql" --quiet --host "$DIRECTORY" --port "$PORT" --username postgres --dbname postgres \
        --command "CREATE ROLE keepalive LOGIN PASSWORD '$password'" \
        --command "CREATE DATABASE keepalive OWNER keepalive" \
        --command "CREATE ROLE keeper LOGIN PASSWORD '$password'" \
        --command "GRANT CREATE ON DATABASE postgres TO keeper" >&2
    echo "ready $DIRECTORY $PORT"
    while read -r line; do
        case "$line" in
            kill)
                kill_server
                echo killed
                ;;
            start)
                start "$programs"
                echo "ready $DIRECTORY $PORT"
                ;;
            end) break ;;
            *) fail "unknown command: $line" ;;
        esac
    done
}

# The newest of Debian's versions, or whatever is in the path.
programs() {
    local found
    found=$(find /usr/lib/postgresql -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || found=$(command -v initdb) || fail "no PostgreSQL server here; tests/tools.sh installs it"
    dirname "$found"
}

# A time zone far from ours shows where an instant is taken for a local time.
settings() {
    cat >>"$DIRECTORY/data/postgresql.conf" <<SETTINGS
listen_addresses = '127.0.0.1'
port = $PORT
unix_socket_directories = '$DIRECTORY'
max_connections = 200
shared_buffers = 32MB
timezone = 'America/New_York'
ssl = on
ssl_cert_file = '$DIRECTORY/server.pem'
ssl_key_file = '$DIRECTORY/server.key'
SETTINGS
    cat >"$DIRECTORY/data/pg_hba.conf" <<'RULES'
local   all      postgres trust
local   all      keeper   scram-sha-256
local   postgres all      trust
local   all      all      scram-sha-256
host    all      keeper   127.0.0.1/32 scram-sha-256
hostssl all      all      127.0.0.1/32 scram-sha-256
RULES
}

start() {
    local waited=0
    as_server "$1/postgres" -D "$DIRECTORY/data" >>"$DIRECTORY/log" 2>&1 &
    SERVER=$!
    until "$1/pg_isready" --quiet --host "$DIRECTORY" --port "$PORT"; do
        # A process of the one before may take a moment to notice its end, and keeps this one from starting.
        if ! kill -0 "$SERVER" 2>/dev/null; then
            as_server "$1/postgres" -D "$DIRECTORY/data" >>"$DIRECTORY/log" 2>&1 &
            SERVER=$!
        fi
        ((waited += 1))
        ((waited < 600)) || { cat "$DIRECTORY/log" >&2; fail "the server does not answer"; }
        sleep 0.1
    done
}

# Its children are asked for first, since they lose their parent with its end; and it is stopped before that, since one
# that it makes meanwhile would live on and keep the next server from starting.
kill_server() {
    [ -n "$SERVER" ] || return 0
    local processes
    kill -STOP "$SERVER" 2>/dev/null || true
    until grep -qs '^State:[[:space:]]*[TZ]' "/proc/$SERVER/status" || [ ! -e "/proc/$SERVER" ]; do sleep 0.01; done
    processes="$SERVER $(cat "/proc/$SERVER/task/$SERVER/children" 2>/dev/null)"
    # One word per process.
    # shellcheck disable=SC2086
    kill -9 $processes 2>/dev/null || true
    wait "$SERVER" 2>/dev/null || true
    SERVER=
}

# The server refuses to run as root.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        exec_or_run setpriv --reuid postgres --regid postgres --clear-groups "$@"
    else
        exec_or_run "$@"
    fi
}

# In the background this is a process of its own, which becomes the server.
exec_or_run() {
    if [ "$BASHPID" = "$$" ]; then "$@"; else exec "$@"; fi
}

own() {
    [ "$(id -u)" != 0 ] || chown -R postgres:postgres "$1"
}

clean_up() {
    kill_server
    rm -rf "$DIRECTORY"
}

fail() {
    echo "tests/servers/postgres.sh: $*" >&2
    exit 1
}

main
