#!/bin/sh
# Runs a real redis-server in the foreground, for one test: redis.sh DIRECTORY [--setting value]...
# It listens on DIRECTORY/server.sock only, unless the settings say otherwise, and keeps nothing on disk.
set -eu
directory=$1
shift
if ! command -v redis-server >/dev/null; then
    echo "redis.sh: there is no redis-server; run tests/tools.sh, which installs it" >&2
    exit 1
fi
exec redis-server --port 0 --unixsocket "$directory/server.sock" --dir "$directory" --save '' --appendonly no \
    --notify-keyspace-events Kghxe --daemonize no --logfile "$directory/log" "$@"
