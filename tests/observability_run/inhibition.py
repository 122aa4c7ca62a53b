"""Who hears of which alert, and which alert silences which other: asked of amtool and of a real Alertmanager.

`SILENCES` is the whole of what may be silenced. Every pair of alerts is raised with the same labels, and no pair but
those may be silenced; then every one of those is raised again with one label different, or missing, where it must not be.
"""

import re
import subprocess
import sys
import time

from servers import ALERTMANAGER_EXAMPLE, RULES, Alertmanager

# What identifies what an alert is about, as its series have it.
ACCOUNT = ("job", "instance", "provider", "account", "app")
APP = ("job", "instance", "provider", "app")
PROVIDER = ("job", "instance", "provider")
SIDECAR = ("job", "instance")
ABOUT = {
    "OAuthTokenNearEnd": ACCOUNT,
    "OAuthRefreshTokenNearEnd": ACCOUNT,
    "OAuthRenewalOverdue": ACCOUNT,
    "OAuthAccountNeedsReconnect": ACCOUNT,
    "OAuthAccountNeedsOperator": ACCOUNT,
    "OAuthScopesMissing": ACCOUNT,
    "OAuthUnauthorizedResponses": ACCOUNT,
    "OAuthAccountHeld": ACCOUNT,
    "OAuthPostsAtRisk": ACCOUNT,
    "OAuthAppFrozen": APP,
    "OAuthRefreshFailing": PROVIDER,
    "OAuthTokenUnsaved": SIDECAR,
    "OAuthKeepaliveDown": SIDECAR,
    "OAuthKeepaliveStalled": SIDECAR,
    "OAuthKeepaliveStoreDown": SIDECAR,
    "OAuthKeepaliveStateDown": SIDECAR,
    "OAuthKeepaliveStoreRowsDamaged": SIDECAR,
    "OAuthKeepaliveClockOff": PROVIDER,
    "OAuthKeepaliveReloadFailed": SIDECAR,
    "OAuthKeepaliveObserveDown": SIDECAR,
    "OAuthKeepaliveMailFailing": SIDECAR,
    "OAuthKeepaliveOutboxStuck": SIDECAR,
    "OAuthKeepaliveOutboxGrowing": SIDECAR,
    "OAuthKeepaliveMailGivenUp": SIDECAR,
    "OAuthKeepaliveWebhookFailing": SIDECAR,
    "OAuthKeepaliveNoticesHeld": SIDECAR,
}

# Source and target, and the labels that have to be the same. `/critical` is a band where an alert has two.
NEAR, NEAR_CRITICAL = "OAuthTokenNearEnd/warning", "OAuthTokenNearEnd/critical"
SAME_ACCOUNT = ("job", "instance", "provider", "account")
SAME_APP = ("job", "instance", "provider", "app")
SILENCES = {
    (NEAR_CRITICAL, NEAR): SAME_ACCOUNT,
    (NEAR_CRITICAL, "OAuthRenewalOverdue"): SAME_ACCOUNT,
    (NEAR, "OAuthRenewalOverdue"): SAME_ACCOUNT,
    ("OAuthAccountNeedsReconnect", "OAuthRefreshTokenNearEnd"): SAME_ACCOUNT,
    ("OAuthAppFrozen", NEAR): SAME_APP,
    ("OAuthAppFrozen", NEAR_CRITICAL): SAME_APP,
    ("OAuthAppFrozen", "OAuthRenewalOverdue"): SAME_APP,
    ("OAuthRefreshFailing", "OAuthRenewalOverdue"): PROVIDER,
    ("OAuthKeepaliveStoreDown", NEAR): SIDECAR,
    ("OAuthKeepaliveStoreDown", "OAuthRenewalOverdue"): SIDECAR,
    ("OAuthKeepaliveStateDown", NEAR): SIDECAR,
    ("OAuthKeepaliveStateDown", "OAuthRenewalOverdue"): SIDECAR,
    ("OAuthKeepaliveStalled", NEAR): SIDECAR,
    ("OAuthKeepaliveStalled", "OAuthRenewalOverdue"): SIDECAR,
    ("OAuthKeepaliveDown", NEAR): SIDECAR,
    ("OAuthKeepaliveDown", NEAR_CRITICAL): SIDECAR,
    ("OAuthKeepaliveDown", "OAuthRenewalOverdue"): SIDECAR,
    ("OAuthKeepaliveDown", "OAuthKeepaliveStalled"): SIDECAR,
    ("OAuthKeepaliveDown", "OAuthRefreshFailing"): SIDECAR,
    ("OAuthKeepaliveDown", "OAuthUnauthorizedResponses"): SIDECAR,
    ("OAuthKeepaliveDown", "OAuthKeepaliveMailFailing"): SIDECAR,
    ("OAuthKeepaliveDown", "OAuthKeepaliveOutboxStuck"): SIDECAR,
    ("OAuthKeepaliveDown", "OAuthKeepaliveOutboxGrowing"): SIDECAR,
    ("OAuthKeepaliveMailFailing", "OAuthKeepaliveOutboxStuck"): SIDECAR,
    ("OAuthKeepaliveMailFailing", "OAuthKeepaliveOutboxGrowing"): SIDECAR,
}

CARE = ("OAuthAccountNeedsReconnect", "OAuthRefreshTokenNearEnd", "OAuthScopesMissing")
META = ("instagram", "facebook", "threads")
TIKTOK = ("tiktok", "tiktok_business")
# Every receiver must be reached by one of these.
PROVIDERS = (*TIKTOK, *META, "google", "x")

SETTLED_DEADLINE_SECONDS = 30


def receiver_of(labels):
    """Who is to hear of an alert; the example's routes in other words."""
    if labels["severity"] == "critical":
        return "on-call"
    if labels["alertname"] not in CARE:
        return "operators"
    provider = labels["provider"]
    team = "-tiktok" if provider in TIKTOK else "-meta" if provider in META else ""
    return "account-care" + team


def bands():
    """Each alert with each severity that the rules give it, as `name/severity` where there are two."""
    found = {}
    for path in RULES:
        for rule in re.split(r"^\s*- alert: ", path.read_text(), flags=re.MULTILINE)[1:]:
            severity = re.search(r"severity: (\w+)", rule).group(1)
            # Some have a second rule, for sidecars that show no series of accounts.
            found.setdefault(rule.split("\n", 1)[0], {})[severity] = None
    return {
        name if len(severities) == 1 else f"{name}/{severity}": (name, severity)
        for name, severities in found.items()
        for severity in severities
    }


def routes_complaints(amtool):
    checked = subprocess.run([amtool, "check-config", ALERTMANAGER_EXAMPLE], capture_output=True, text=True)
    if checked.returncode:
        yield f"{amtool} check-config: {checked.stdout}{checked.stderr}"
        return
    for name, severity in bands().values():
        for provider in PROVIDERS if name in CARE else ("tiktok",):
            labels = {"alertname": name, "severity": severity, "provider": provider}
            command = [amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER_EXAMPLE}"]
            command += [f"--verify.receivers={receiver_of(labels)}"]
            command += [f"{key}={value}" for key, value in labels.items()]
            tested = subprocess.run(command, capture_output=True, text=True)
            if tested.returncode:
                yield f"{labels} is not routed to {receiver_of(labels)}: {tested.stdout}{tested.stderr}"


def matrix_complaints(binary, folder):
    """Each pair has a job of its own, so that all of them can be asked at once."""
    named = bands()
    unknown = {name for name, _ in named.values()} ^ ABOUT.keys()
    if unknown:
        yield f"tests/observability_run/inhibition.py and the rules differ about {', '.join(sorted(unknown))}"
        return
    questions = list(questions_about(named))
    alerts, expected = [], {}
    for number, (source, target, silenced, what) in enumerate(questions):
        alerts += [dict(source, job=f"pair-{number}"), target := dict(target, job=f"pair-{number}")]
        if "job" in what:
            target["job"] += "-other"
        expected[identity(target)] = silenced, f"{what} of {source['alertname']} for {target['alertname']}"
    with Alertmanager(binary, folder) as alertmanager:
        alertmanager.raise_alerts(alerts)
        deadline = time.monotonic() + SETTLED_DEADLINE_SECONDS
        right = 0
        # Twice: an alert that must not be silenced might have been asked about before what silences it was known.
        while right < 2 and time.monotonic() < deadline:
            wrong = wrong_answers(alertmanager.alerts(), expected)
            right = 0 if wrong else right + 1
            time.sleep(0.5)
    yield from wrong
    print(f"{len(questions)} pairs of alerts, {len(SILENCES)} of them silence", file=sys.stderr)


def questions_about(named):
    """Source, target, whether the target must be silenced, and what is asked."""
    for source in named:
        for target in named:
            if source != target:
                yield *pair(named, source, target), (source, target) in SILENCES, "same labels"
    for (source, target), equal in SILENCES.items():
        for label in ABOUT[named[target][0]]:
            first, second = pair(named, source, target)
            second[label] += "-other"
            yield first, second, label not in equal, f"another {label}"
        # Missing on both sides is not the same: nobody knows what it is about.
        first, second = pair(named, source, target)
        if equal[-1] in first:
            del first[equal[-1]], second[equal[-1]]
            yield first, second, False, f"no {equal[-1]} on both sides"


def pair(named, *bands_):
    for band in bands_:
        name, severity = named[band]
        yield {"alertname": name, "severity": severity, **{label: f"the-{label}" for label in ABOUT[name]}}


def wrong_answers(alerts, expected):
    answers = {identity(alert["labels"]): bool(alert["status"]["inhibitedBy"]) for alert in alerts}
    return [
        f"{what}: is {'' if answers[target] else 'not '}silenced" if target in answers else f"{what}: not there"
        for target, (silenced, what) in expected.items()
        if answers.get(target) != silenced
    ]


def identity(labels):
    return tuple(sorted(labels.items()))
