"""What the demo's troubles must lead to, in Prometheus and in Alertmanager. Its script stands in src/demo/cast.rs."""

import threading
import time

from inhibition import SILENCES, receiver_of
from servers import JOB

# Who fires what: the alert and the account or app.
MUST_FIRE = {
    ("OAuthAccountNeedsReconnect", "brand-03"),  # its consent is revoked
    ("OAuthScopesMissing", "brand-05"),  # its next token lacks a scope
    ("OAuthRefreshTokenNearEnd", "brand-07"),  # its refresh token will end before it is renewed again
    ("OAuthAccountNeedsReconnect", "brand-07"),  # its owner is asked ahead of that, and after it
    ("OAuthAppFrozen", "demo"),  # its secret is changed
    ("OAuthKeepaliveDown", ""),  # the demo has ended
}
MAY_FIRE = {
    ("OAuthRenewalOverdue", "brand-09"),  # an answer is lost; the only probe waits for the deadline of the request
    ("OAuthTokenNearEnd", "brand-09"),  # and that may leave little of a life of a minute
    ("OAuthRenewalOverdue", "brand-11"),  # the provider asks for a wait that is an eighth of the token's life
}
# Whoever is due between the change of the secret and its mending is renewed late.
MAY_FIRE_ONCE_REFUSED = {"OAuthRenewalOverdue", "OAuthTokenNearEnd"}
REFUSED = 'sum(oauth_keepalive_refresh_failures_total{cause="app_credentials_rejected"}) > 0'
# Conditions that hold for a moment; their wait is there so that they do not fire.
MAY_BE_PENDING = {
    "OAuthKeepaliveDown",  # before the first scrape, and after the demo's end
    "OAuthKeepaliveStalled",  # a single sample has not changed yet
    "OAuthAccountHeld",  # whatever is mended waits a moment for its proof
    "OAuthKeepaliveOutboxStuck",  # the first mail is on its way
}
# The account whose refresh token ends: that its owner was asked is enough.
MUST_BE_SILENCED = ("OAuthRefreshTokenNearEnd", "brand-07", "OAuthAccountNeedsReconnect")
# Those who must have heard of it, and of its end. Nobody has to hear of what was silenced.
MUST_BE_TOLD = MUST_FIRE - {("OAuthRefreshTokenNearEnd", "brand-07")}
# It ends when the sidecar is there again.
NOT_RESOLVED = {"OAuthKeepaliveDown"}

# The demo has ended when it could not be scraped for so long; one scrape may fail on a busy machine.
SILENT_SECONDS = 5
# In place of two minutes: the copy of the rules that the demo is watched with.
DOWN_FOR = ("for: 2m", "for: 12s")
SCRAPED_DEADLINE_SECONDS = 60
END_DEADLINE_SECONDS = 300
TOLD_DEADLINE_SECONDS = 90


def watched_rules(rules, folder):
    """The rules, except that a sidecar which is down is told after seconds."""
    copies = []
    for path in rules:
        text = path.read_text()
        name = "- alert: OAuthKeepaliveDown\n"
        before, found, after = text.partition(name)
        copies.append(folder / path.name)
        copies[-1].write_text(before + found + after.replace(*DOWN_FOR, 1))
    return copies


class Onlooker(threading.Thread):
    """Looks at Alertmanager again and again and remembers what silenced what."""

    def __init__(self, alertmanager):
        super().__init__(daemon=True)
        self.alertmanager, self.seen, self.over = alertmanager, {}, threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self):
        while not self.over.wait(0.5):
            for alert in self.alertmanager.alerts():
                for source in alert["silenced_by"]:
                    labels = alert["labels"]
                    key = labels["alertname"], labels.get("account", ""), source.get("alertname", "")
                    self.seen[key] = labels, source


def unscraped(prometheus, wanted):
    """Waits for so many scrapes, without which there is nothing to ask."""
    deadline = time.monotonic() + SCRAPED_DEADLINE_SECONDS
    while True:
        result = prometheus.query(f'sum_over_time(up{{job="{JOB}"}}[1h])')
        scrapes = int(float(result[0]["value"][1])) if result else 0
        if scrapes >= wanted:
            return []
        if time.monotonic() > deadline:
            return [f"{scrapes} of {wanted} scrapes of {prometheus.target} succeeded in time"]
        time.sleep(0.5)


def wait_for_the_end(prometheus):
    deadline = time.monotonic() + END_DEADLINE_SECONDS
    while not prometheus.query(f'max_over_time(up{{job="{JOB}"}}[{SILENT_SECONDS}s]) == 0'):
        if time.monotonic() > deadline:
            return ["the demo did not end in time"]
        time.sleep(0.5)
    return []


def alert_complaints(prometheus):
    """The demo's end is waited for, and the alert that tells of it."""
    yield from wait_for_the_end(prometheus)
    deadline = time.monotonic() + TOLD_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if prometheus.query('ALERTS{alertname="OAuthKeepaliveDown", alertstate="firing"}'):
            break
        time.sleep(0.5)
    scraped = [at for series in prometheus.history(f'up{{job="{JOB}"}} == 1') for at, _ in series["values"]]
    refused = [float(at) for series in prometheus.history(REFUSED) for at, _ in series["values"]]
    fired = set()
    for series in prometheus.history("ALERTS"):
        labels = series["metric"]
        alert, who = labels["alertname"], labels.get("account") or labels.get("app", "")
        began = float(series["values"][0][0])
        after = f"{alert} for {who or 'the sidecar'} after {began - prometheus.started:.0f} s"
        if labels["alertstate"] == "pending":
            if alert not in MAY_BE_PENDING:
                yield f"demo: {after} was pending, and nothing was wrong"
            continue
        fired.add((alert, who))
        expected = (alert, who) in MUST_FIRE | MAY_FIRE
        late = alert in MAY_FIRE_ONCE_REFUSED and refused and began >= min(refused)
        if not expected and not late:
            yield f"demo: {after} was firing, and nothing was wrong"
        if alert == "OAuthKeepaliveDown" and began < max(scraped, default=0):
            yield f"demo: {after} was firing, and the demo went on"
    for alert, who in sorted(MUST_FIRE - fired):
        yield f"demo: {alert} for {who or 'the sidecar'} did not fire"


def told_complaints(receiver, onlooker):
    """Who must hear of it has heard, also of its end, and nobody else; and what was silenced was rightly silenced."""
    deadline = time.monotonic() + TOLD_DEADLINE_SECONDS
    while (missing := list(untold(receiver))) and time.monotonic() < deadline:
        time.sleep(0.5)
    yield from (f"Alertmanager: {complaint}" for complaint in missing)
    for heard_by, _, labels in receiver.heard:
        if heard_by != receiver_of(labels):
            yield f"Alertmanager: {heard_by} heard of {labels['alertname']}, which is for {receiver_of(labels)}"
    if MUST_BE_SILENCED not in onlooker.seen:
        yield "Alertmanager: {} for {} was not silenced by {}".format(*MUST_BE_SILENCED)
    for labels, source in list(onlooker.seen.values()):
        equal = next((equal for pair, equal in SILENCES.items() if names(labels, source) == pair_names(pair)), None)
        if equal is None or any(labels.get(label) != source.get(label) for label in equal):
            yield f"Alertmanager: {labels} was silenced by {source}"


def untold(receiver):
    """What somebody must still hear."""
    heard = {
        (labels["alertname"], labels.get("account") or labels.get("app", ""), status)
        for _, status, labels in list(receiver.heard)
    }
    for alert, who in sorted(MUST_BE_TOLD):
        for status in ("firing", "resolved"):
            if (alert, who, status) not in heard and not (status == "resolved" and alert in NOT_RESOLVED):
                yield f"nobody heard that {alert} for {who or 'the sidecar'} is {status}"


def names(labels, source):
    return source.get("alertname"), labels["alertname"]


def pair_names(pair):
    return tuple(band.split("/")[0] for band in pair)
