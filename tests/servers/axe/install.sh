#!/bin/sh
# Installs axe-core, which finds what makes a page hard to use, into .tools/axe and prints the path of its script. Its
# version and checksum stand in package-lock.json; it is fetched with the Node of tests/servers/oauth. Safe to call again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
home="$root/.tools/axe"
mark="$home/installed"
wanted=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum)
node=$("$here/../oauth/install.sh" | cut -d ' ' -f 2)

mkdir -p "$root/.tools"
exec 9>"$root/.tools/axe.lock"
flock 9
if [ ! -f "$mark" ] || [ "$(cat "$mark")" != "$wanted" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    cp "$here/package.json" "$here/package-lock.json" "$home"
    npm=${node%/bin/node}/lib/node_modules/npm/bin/npm-cli.js
    "$node" "$npm" ci --prefix "$home" --ignore-scripts --no-audit --no-fund --loglevel error >&2
    printf '%s' "$wanted" >"$mark"
fi
echo "$home/node_modules/axe-core/axe.min.js"
