"""What became of every account, from the servers' own records, their gateways, and the publisher's store."""

import re
from concurrent.futures import ThreadPoolExecutor

# Who must act, by cause.
ACTORS = {
    "app_credentials_rejected": "operator",
    "refresh_token_rejected": "owner",
    "scope_missing": "owner",
    "rotation_lost": "owner",
}
# Requests of one app that a changed secret may cost before its accounts are left alone.
REFUSED_MAX = 5
LISTED_MAX = 8
# What both servers make tokens of.
TOKEN = re.compile(r"[A-Za-z0-9_-]{30,}")


class Audit:
    def __init__(self, servers, sidecar):
        self.servers, self.sidecar = servers, sidecar
        self.complaints = []
        # Account, cause and actor that it should have, and what was said.
        self.right, self.wrong = set(), set()
        self.lost = set()

    def hear_diagnosis(self, expected):
        diagnosed = self.sidecar.diagnosed()
        for account, cause in expected.items():
            wanted = (cause, ACTORS[cause])
            (self.right if diagnosed.get(account) == wanted else self.wrong).add((account, wanted, diagnosed.get(account)))

    def differing_counts(self):
        """Outcomes by our count and by the servers', where they are not the same."""
        ours = self.sidecar.outcomes()
        theirs = dict.fromkeys(ours, 0)
        for server in self.servers:
            for refresh in list(server.gateway.refreshes):
                if refresh.account is not None:
                    theirs[outcome_of(refresh)] += 1
        return {outcome: (count, theirs[outcome]) for outcome, count in ours.items() if count != theirs[outcome]}

    def look(self, exit_code):
        """Once the program has ended."""
        if exit_code != 0:
            self.complaints.append(f"the program ended with {exit_code}")
        stored = self.sidecar.stored()
        for server in self.servers:
            self.look_at_tokens(server, stored)
            self.look_at_requests(server)
        self.none("causes were wrong: account, wanted, diagnosed", sorted(self.wrong, key=str))
        self.none("renewals that were under way were called unsaved", sorted(self.sidecar.called_unsaved))
        self.look_for_secrets()

    def look_at_tokens(self, server, stored):
        """Whoever has a consent must have in the store what the server honours, and it must buy another one."""
        live = server.change("live")
        may_live = [account for account in server.accounts if account not in server.stay_away()]
        astray = [account for account in may_live if stored[account] != live.get(account)]
        self.none(f"{server.name}: what the store holds is not what the server honours", astray)
        with ThreadPoolExecutor(4) as pool:
            buys = dict(zip(may_live, pool.map(lambda account: server.accepts(account, stored[account]), may_live)))
        refused = [account for account in may_live if not buys[account]]
        self.none(f"{server.name}: what the store holds buys nothing", refused)
        self.lost |= {*astray, *refused}

    def look_at_requests(self, server):
        gateway = server.gateway
        lost = set(server.groups["lost"])
        without_need, too_often = [], []
        for account in server.accounts:
            refreshes = gateway.of(account)
            retired = sum(refresh.is_retired for refresh in refreshes)
            # One probe for each lost answer, where the server rotates at all.
            if retired > (account in lost):
                without_need.append(account)
            if sum(refresh.error == "invalid_grant" for refresh in refreshes) > 1:
                too_often.append(account)
        self.none(f"{server.name}: retired tokens were presented without need", without_need)
        self.none(f"{server.name}: a dead token was presented again", too_often)
        refused = [refresh for refresh in gateway.refreshes if refresh.account and refresh.error == "invalid_client"]
        if not 0 < len(refused) <= REFUSED_MAX or {refresh.client for refresh in refused} != {f"{server.name} second"}:
            self.complaints.append(f"{server.name}: {len(refused)} requests of apps were refused")
        others = {refresh.error for refresh in gateway.refreshes} - {None, "invalid_grant", "invalid_client"}
        self.none(f"{server.name}: answers that nobody planned", sorted(others))

    def look_for_secrets(self):
        """No token and no secret may stand where people look."""
        texts = {"the log": self.sidecar.log.read_text(), "the diagnosis": self.sidecar.diagnosis_text}
        # Thousands of tokens, and a long log.
        words = {place: set(TOKEN.findall(text)) for place, text in texts.items()}
        for server in self.servers:
            secrets = [secret for secret in server.secrets.values() if secret]
            for place, text in texts.items():
                found = len(words[place] & server.gateway.owners.keys()) + sum(secret in text for secret in secrets)
                if found:
                    self.complaints.append(f"{server.name}: {found} secrets stand in {place}")

    def none(self, what, cases):
        if cases:
            self.complaints.append(f"{len(cases)}: {what}: {cases[:LISTED_MAX]}")

    def lines(self):
        for server in self.servers:
            gateway, mine = server.gateway, set(server.accounts)
            right = sum(account in mine for account, _, _ in self.right)
            wrong = sum(account in mine for account, _, _ in self.wrong)
            yield (
                f"server={server.name} grants={len(mine)} rotations={sum(gateway.rotations().values())}"
                f" revoked={len(server.groups['revoked'])} narrowed={len(server.groups['narrowed'])}"
                f" wrong_secret={len(server.groups['second'])} answers_lost={len(server.groups['lost'])}"
                f" retired_presented={sum(refresh.is_retired for refresh in gateway.refreshes)}"
                f" causes_right={right}/{right + wrong} lost={len(self.lost & mine)}"
            )


def outcome_of(refresh):
    """Under which outcome the program must have counted it."""
    if refresh.is_lost:
        return "ambiguous"
    if refresh.status == 200:
        return "committed"
    return "dead" if refresh.error == "invalid_grant" else "not_committed"
