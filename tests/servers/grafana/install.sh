#!/bin/sh
# Installs Grafana's own schema of dashboards and TypeScript into .tools/grafana, and prints that folder and the Node of
# tests/servers/oauth, which runs them. Versions and checksums stand in package-lock.json. Safe to call again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
home="$root/.tools/grafana"
mark="$home/installed"
wanted=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum)
node=$("$here/../oauth/install.sh" | cut -d ' ' -f 2)

mkdir -p "$root/.tools"
exec 9>"$root/.tools/grafana.lock"
flock 9
if [ ! -f "$mark" ] || [ "$(cat "$mark")" != "$wanted" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    cp "$here/package.json" "$here/package-lock.json" "$home"
    npm=${node%/bin/node}/lib/node_modules/npm/bin/npm-cli.js
    "$node" "$npm" ci --prefix "$home" --ignore-scripts --no-audit --no-fund --loglevel error >&2
    printf '%s' "$wanted" >"$mark"
fi
echo "$home $node"
