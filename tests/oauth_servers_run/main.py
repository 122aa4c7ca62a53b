"""Runs the program against real authorization servers while things go wrong, and judges what came of it.

Started by tests/oauth_servers, which says what the options are. One process of the program serves all of them through the
generic provider, with three apps at each: one whose secret changes, a public one, and the one of everybody else.
"""

import argparse
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from audit import LISTED_MAX, Audit
from server import KINDS, SCOPE, Server
from sidecar import Sidecar

# For everything that should happen: far beyond what it takes, so that a busy machine does not fail.
PATIENCE_SECONDS = 120
LOOK_EVERY_SECONDS = 0.5
ROTATIONS_MIN = 4


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", type=Path, required=True, help="the program")
    options.add_argument("--accounts", type=int, default=300, help="at oidc-provider; a third of it at each other server")
    options.add_argument("--life", type=seconds, default=20, help="of an access token")
    options.add_argument("--for", type=seconds, default=60, dest="run_for", help="how long at least")
    options = options.parse_args()

    # The program and the servers must not outlive this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    with ThreadPoolExecutor(len(KINDS)) as pool, tempfile.TemporaryDirectory(prefix="oauth-keepalive-servers-") as folder:
        share = {name: options.accounts if name == "oidc-provider" else options.accounts // 3 for name in KINDS}
        servers = list(pool.map(lambda name: Server(name, share[name], options.life), KINDS))
        sidecar = Sidecar(options.binary.resolve(), Path(folder), servers, options.life)
        for server in servers:
            sidecar.connect(server, server.accounts)
        audit = Audit(servers, sidecar)
        try:
            sidecar.start()
            try:
                run(sidecar, servers, audit, began + options.run_for)
            except NeverCameTrue as never:
                audit.complaints.append(str(never))
                print(f"--- the end of the program's log\n{sidecar.log.read_text()[-4000:]}\n---")
            audit.look(sidecar.stop())
        finally:
            sidecar.kill()
            for server in servers:
                server.stop()
    for complaint in audit.complaints:
        print(f"VIOLATED {complaint}")
    for line in audit.lines():
        print(line)
    sys.exit(bool(audit.complaints))


class NeverCameTrue(Exception):
    pass


def seconds(text):
    return int(text.removesuffix("s"))


def run(sidecar, servers, audit, until_at_least):
    until("the program listens", sidecar.is_silent)
    until("every account was renewed", lambda: seldom_renewed(servers, lambda server: server.accounts, 1))
    make_trouble(sidecar, servers)
    expected = {account: cause for server in servers for account, cause in wrong_by_now(server).items()}
    until("every cause is shown", lambda: missing(expected, sidecar.causes()))
    until("every cause is written down", lambda: missing(expected, causes_of(sidecar.diagnosed())))
    audit.hear_diagnosis(expected)

    mend(sidecar, servers)
    expected = {account: cause for server in servers for account, cause in wrong_for_good(server).items()}
    until("whoever can be well is well", lambda: differing(expected, sidecar.causes()))
    until("everybody else is renewed many times", lambda: seldom_renewed(servers, healthy, ROTATIONS_MIN))
    while time.monotonic() < until_at_least:
        time.sleep(LOOK_EVERY_SECONDS)
    until("nothing is wrong with anybody else", lambda: differing(expected, sidecar.causes()))
    until("the same is written down", lambda: differing(expected, causes_of(sidecar.diagnosed())))
    audit.hear_diagnosis(expected)
    until("the program has counted what the servers have", audit.differing_counts)


def make_trouble(sidecar, servers):
    for server in servers:
        server.change("revoke", accounts=server.groups["revoked"])
        server.change("take_scope", accounts=server.groups["narrowed"], scope=SCOPE)
        server.change_secret("second")
        with server.gateway.lock:
            server.gateway.losing.update(server.groups["lost"])
    for server in servers:
        until(f"{server.name}: ended access tokens were looked at", lambda server=server: ended_looked_at(sidecar, server))
        until(f"{server.name}: its answers were lost", lambda server=server: server.gateway.losing)


def ended_looked_at(sidecar, server):
    """Ends them again and again: a renewal may come between the end and the report of it."""
    waiting = sorted(set(server.groups["ended"]) - server.gateway.refused_probes)
    if waiting:
        server.change("end_access", accounts=waiting)
        sidecar.report(waiting, 401)
    return waiting


def mend(sidecar, servers):
    """The operator writes the new secrets down, and some of those who lost their consent or their token give it again."""
    for server in servers:
        client = f"{server.name} second"
        sidecar.write_secret(client, server.secrets[client])
        sidecar.connect(server, server.reconnected())


def wrong_by_now(server):
    """By account what the program must call it once there was trouble."""
    wrong = dict.fromkeys(server.groups["second"], "app_credentials_rejected")
    wrong |= dict.fromkeys(server.groups["revoked"], "refresh_token_rejected")
    wrong |= dict.fromkeys(server.groups["narrowed"], "scope_missing")
    if not server.forgives:
        wrong |= dict.fromkeys(server.groups["lost"], "rotation_lost")
    return wrong


def wrong_for_good(server):
    mended = {*server.groups["second"], *server.reconnected()}
    return {account: cause for account, cause in wrong_by_now(server).items() if account not in mended}


def healthy(server):
    """Whoever was never held up for long."""
    return [account for group in ("peaceful", "public", "ended") for account in server.groups[group]]


def seldom_renewed(servers, which, times):
    """Those that were renewed less often."""
    return [
        account
        for server in servers
        for counted in [server.gateway.rotations()]
        for account in which(server)
        if counted[account] < times
    ]


def causes_of(diagnosed):
    return {account: cause for account, (cause, _) in diagnosed.items()}


def missing(expected, shown):
    return {account: shown.get(account) for account, cause in expected.items() if shown.get(account) != cause}


def differing(expected, shown):
    """As `missing`, and everybody else must be well."""
    beyond = {account: cause for account, cause in shown.items() if cause != "none" and account not in expected}
    return missing(expected, shown) | beyond


def until(what, open_points):
    """Waits until there are none left, and says how long that took."""
    began = time.monotonic()
    deadline = began + PATIENCE_SECONDS
    while left := open_points():
        if time.monotonic() > deadline:
            some = left if isinstance(left, bool) else list(left.items() if isinstance(left, dict) else left)[:LISTED_MAX]
            raise NeverCameTrue(f"never came true: {what}: {some}")
        time.sleep(LOOK_EVERY_SECONDS)
    print(f"{time.monotonic() - began:4.0f} s until {what}", flush=True)


if __name__ == "__main__":
    main()
