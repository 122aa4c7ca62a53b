#!/usr/bin/env bash
# Starts a MariaDB server of its own on a free port in a new temporary folder. Prints `PORT FOLDER` when it
# answers; the socket (mysqld.sock) and the certificates are in the folder. Takes the commands `kill` and `start`
# on standard input, and answers each with `done`. Ends when standard input is closed, and leaves nothing behind.
set -euo pipefail
PATH=$PATH:/usr/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v mariadbd >/dev/null || {
    echo "MariaDB is missing; tests/tools.sh installs it" >&2
    exit 1
}
folder=$(mktemp -d -t keepalive-mariadb-XXXXXX)
server=
kill_server() {
    if [ -n "$server" ]; then
        kill -9 "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    server=
}
trap 'kill_server; rm -rf "$folder"' EXIT

user=()
"$here/certificates.sh" "$folder"
chmod 755 "$folder"
if [ "$(id -u)" = 0 ]; then
    user=(--user=mysql)
    chown -R mysql "$folder"
fi
mariadb-install-db --no-defaults "${user[@]}" --datadir="$folder/data" --skip-test-db \
    --auth-root-authentication-method=normal >"$folder/log" 2>&1 || {
    cat "$folder/log" >&2
    exit 1
}

start() {
    mariadbd --no-defaults "${user[@]}" --datadir="$folder/data" --socket="$folder/mysqld.sock" --port="$1" \
        --bind-address=127.0.0.1 --pid-file="$folder/pid" --innodb-flush-log-at-trx-commit=2 --max-connections=300 \
        --ssl-cert="$folder/server.pem" --ssl-key="$folder/server.key" --ssl-ca="$folder/ca.pem" \
        --default-time-zone=-05:00 --skip-name-resolve >>"$folder/log" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        if mariadb --no-defaults -u root -S "$folder/mysqld.sock" -e 'SELECT 1' >/dev/null 2>&1; then return 0; fi
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}
for _ in 1 2 3 4 5 6 7 8 9 10; do
    port=$((32100 + RANDOM % 600))
    if start "$port"; then break; fi
    kill_server
    port=
done
[ -n "$port" ] || {
    cat "$folder/log" >&2
    exit 1
}
mariadb --no-defaults -u root -S "$folder/mysqld.sock" -e "
    CREATE USER keeper@'%' IDENTIFIED BY 'invented-password'; GRANT ALL ON *.* TO keeper@'%';"
echo "$port $folder"
while read -r command; do
    case "$command" in
        kill) kill_server ;;
        start) start "$port" ;;
    esac
    echo "done"
done
