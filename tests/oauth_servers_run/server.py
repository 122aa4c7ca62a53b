"""An authorization server as a process of its own, with its gateway and what is known of its accounts."""

import json
import os
import subprocess
import urllib.parse
from base64 import b64encode
from pathlib import Path

from gateway import Gateway, send

SERVERS = Path(__file__).resolve().parent.parent / "servers/oauth"
# By name: the command, and whether whoever lost an answer can have it again.
KINDS = {
    "oidc-provider": ([os.environ["NODE"], SERVERS / "oidc_provider.js"], False),
    **{
        f"django-{mode}": ([os.environ["PYTHON"], SERVERS / "django_oauth_toolkit.py", mode], forgives)
        for mode, forgives in (("strict", False), ("lenient", False), ("grace", True), ("stable", True))
    },
}
SCOPE = "publish"
# What RFC 6749 section 2.3.1 wants encoded before it goes into the header.
AWKWARD = " +/:%&=~*"

# Each share of the accounts with what becomes of it. The rest is left in peace.
SHARES = {"revoked": 20, "narrowed": 20, "ended": 20, "lost": 20, "public": 10, "second": 5}
SHARE_MIN = 3


class Server:
    def __init__(self, name, accounts, life):
        command, self.forgives = KINDS[name]
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.groups = {}
        for group, divisor in SHARES.items():
            self.groups[group] = self.names(group, max(SHARE_MIN, accounts // divisor))
        self.groups["peaceful"] = self.names("peaceful", accounts - sum(map(len, self.groups.values())))
        self.accounts = [account for group in self.groups.values() for account in group]
        # A blank in an id, so that it must be encoded too.
        self.secrets = {f"{name} {app}": f"{name}{AWKWARD}{app}" for app in ("main", "second")}
        self.secrets[f"{name} public"] = None
        clients = [{"client": client, "secret": secret} for client, secret in self.secrets.items()]
        urls = self.tell(do="start", life=life, clients=clients)
        self.gateway = Gateway(urls["token"], urls["probe"])

    def names(self, group, how_many):
        return [f"{self.name}-{group}-{number:03}" for number in range(how_many)]

    def client_of(self, account):
        for app in ("second", "public"):
            if account in self.groups[app]:
                return f"{self.name} {app}"
        return f"{self.name} main"

    def reconnected(self):
        """Those who lost their consent or their token for good, and give a consent again; not all of them."""
        lost = [] if self.forgives else self.groups["lost"]
        return [*lost, *self.groups["revoked"][::2]]

    def stay_away(self):
        return set(self.groups["revoked"]) - set(self.reconnected())

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended at {command['do']}")
        return json.loads(answer)

    def change(self, do, **more):
        """Something happens at the server, between two requests."""
        with self.gateway.lock:
            return self.tell(do=do, **more)

    def change_secret(self, app):
        client = f"{self.name} {app}"
        self.secrets[client] += " changed"
        self.change("change_secret", client=client, secret=self.secrets[client])

    def mint(self, accounts):
        """Tokens of consents that were just given."""
        tokens = self.change("mint", accounts=[[account, self.client_of(account)] for account in accounts])
        for account, token in tokens.items():
            self.gateway.know(account, token["access"], token["refresh"])
        return tokens

    def accepts(self, account, refresh_token):
        """Whether this token still buys another one; asked at the server itself."""
        client = self.client_of(account)
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": client}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.secrets[client] is not None:
            pair = ":".join(map(urllib.parse.quote_plus, (client, self.secrets[client])))
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        status, _, _ = send(self.gateway.token_url, "POST", headers, urllib.parse.urlencode(form).encode())
        return status == 200

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
