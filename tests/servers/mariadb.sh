#!/usr/bin/env bash
# Runs a MariaDB server of its own for one test program, as long as standard input stays open.
#
# It lies in a new directory, listens on the socket mysqld.sock there and on a free port of 127.0.0.1, and prints
# `ready DIRECTORY PORT`. In the directory are the certificates (see certificates.sh) and password, the password of the
# user `keeper`, who may do everything. The user `root` needs none on the socket.
# Lines on standard input: as for postgres.sh.
set -euo pipefail
PATH=$PATH:/usr/sbin

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIRECTORY=
SERVER=
AS_USER=()

main() {
    local password
    command -v mariadbd >/dev/null || fail "no MariaDB server here; tests/tools.sh installs it"
    DIRECTORY=$(mktemp -d -t oauth-keepalive-mariadb-XXXXXX)
    trap clean_up EXIT
    PORT=$("$SCRIPTS/free_port.py")
    "$SCRIPTS/certificates.sh" "$DIRECTORY"
    password=$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')
    echo "$password" >"$DIRECTORY/password"
    chmod 755 "$DIRECTORY"
    mkdir "$DIRECTORY/tmp"
    # The server refuses to run as root.
    if [ "$(id -u)" = 0 ]; then
        AS_USER=(--user=mysql)
        chown -R mysql "$DIRECTORY"
    fi
    mariadb-install-db --no-defaults "${AS_USER[@]}" --datadir="$DIRECTORY/data" --tmpdir="$DIRECTORY/tmp" \
        --skip-test-db --auth-root-authentication-method=normal >"$DIRECTORY/log" 2>&1 || { cat "$DIRECTORY/log" >&2; exit 1; }
    start
    as_root "CREATE USER keeper@'%' IDENTIFIED BY '$password'; GRANT ALL ON *.* TO keeper@'%'"
    echo "ready $DIRECTORY $PORT"
    while read -r line; do
        case "$line" in
            kill)
                kill_server
                echo killed
                ;;
            start)
                start
                echo "ready $DIRECTORY $PORT"
                ;;
            end) break ;;
            *) fail "unknown command: $line" ;;
        esac
    done
}

# A time zone far from ours shows where an instant is taken for a local time.
# A server that starts removes every #sql file from its tmpdir. In one that it shares with another server those are
# the other one's temporary tables, and the other one crashes (10.11, a null pointer in ha_maria::drop_table).
start() {
    local waited=0
    mariadbd --no-defaults "${AS_USER[@]}" --datadir="$DIRECTORY/data" --tmpdir="$DIRECTORY/tmp" \
        --socket="$DIRECTORY/mysqld.sock" --port="$PORT" --bind-address=127.0.0.1 --pid-file="$DIRECTORY/pid" \
        --innodb-flush-log-at-trx-commit=2 --max-connections=300 --ssl-cert="$DIRECTORY/server.pem" \
        --ssl-key="$DIRECTORY/server.key" --ssl-ca="$DIRECTORY/ca.pem" --default-time-zone=-05:00 \
        --skip-name-resolve >>"$DIRECTORY/log" 2>&1 &
    SERVER=$!
    until as_root 'SELECT 1' >/dev/null 2>&1; do
        kill -0 "$SERVER" 2>/dev/null || { cat "$DIRECTORY/log" >&2; fail "the server ended while it started"; }
        ((waited += 1))
        ((waited < 600)) || { cat "$DIRECTORY/log" >&2; fail "the server does not answer"; }
        sleep 0.1
    done
}

as_root() {
    mariadb --no-defaults --user=root --socket="$DIRECTORY/mysqld.sock" --execute "$1"
}

kill_server() {
    [ -n "$SERVER" ] || return 0
    kill -9 "$SERVER" 2>/dev/null || true
    wait "$SERVER" 2>/dev/null || true
    SERVER=
}

clean_up() {
    kill_server
    rm -rf "$DIRECTORY"
}

fail() {
    echo "tests/servers/mariadb.sh: $*" >&2
    exit 1
}

main
