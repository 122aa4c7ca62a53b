"""Runs what tests/observability promises; see there."""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import dashboards
import demo
import inhibition
import lint
from servers import RULES, Alertmanager, Prometheus, Receiver, free_address

DEMO_SECONDS = 75
SCRAPES_BEFORE_QUERIES = 20
# Metrics that the demo has not, because it watches no publisher; tests/names.py holds the rules about them to the
# golden scrape.
NOT_IN_THE_DEMO = {"oauth_keepalive_posts_at_risk", "oauth_keepalive_observe_up"}
SELECTOR = re.compile(r"(?<![:\w])([a-z_:][a-z0-9_:]*)\s*\{([^}]*)\}")
MATCHER = re.compile(r"\b([a-z_]+)\s*(?:=~|!~|!=|=)")
# Not the names of recording rules, which have colons.
METRIC = re.compile(r"(?<![:\w])(?:oauth_keepalive|process)_[a-z0-9_]*[a-z0-9]\b(?!:)")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--tools", required=True, type=Path, help="the folder with Prometheus 3 and its Alertmanager")
    options.add_argument("--grafana", required=True, help="the folder with Grafana's schema and TypeScript")
    options.add_argument("--node", required=True)
    options.add_argument("--binary", help="oauth-keepalive, whose demo is to be watched")
    options.add_argument("--url", help="the metrics of a demo that has just begun")
    options.add_argument("--without-demo", action="store_true", help="only what needs no demo")
    options = options.parse_args()

    complaints = []
    with tempfile.TemporaryDirectory(prefix="oauth-keepalive-observability-") as folder:
        if not options.url:
            complaints += without_demo(options, Path(folder))
        if not options.without_demo:
            complaints += with_demo(options, Path(folder))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f"{len(complaints)} complaints")
    sys.exit(bool(complaints))


def without_demo(options, folder):
    """What files, parsers and an Alertmanager can say; on the installed versions and on those of --tools."""
    pages = dashboards.read()
    complaints = list(dashboards.folder_complaints())
    complaints += dashboards.type_complaints(pages, options.grafana, options.node)
    complaints += dashboards.lint_complaints(pages, options.tools / "prometheus", folder / "parser")
    complaints += dashboards.refused_queries(pages, "prometheus", folder / "older-parser")
    print(f"{len(pages)} dashboards, {len(lint.RULES)} rules and as many planted faults")
    for tools in ("", options.tools):
        complaints += inhibition.routes_complaints(Path(tools, "amtool"))
        alertmanager = Path(tools, "prometheus-alertmanager")
        complaints += inhibition.matrix_complaints(alertmanager, folder / f"alertmanager-{'new' if tools else 'old'}")
    return complaints


def with_demo(options, folder):
    if options.url:
        return watch(options, folder, options.url)
    address = free_address()
    command = [options.binary, "demo", "--for", f"{DEMO_SECONDS}s", "--listen", address, "--dir", str(folder / "demo")]
    with (folder / "demo.log").open("w") as log:
        playing = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        complaints = watch(options, folder, f"http://{address}/metrics")
    finally:
        playing.terminate()
        code = playing.wait()
    if code:
        complaints.append(f"the demo itself failed: {(folder / 'demo.log').read_text()[-2000:]}")
    return complaints


def watch(options, folder, url):
    """From the demo's beginning to its end: every query has data, every trouble is told to whom it concerns."""
    asked = dashboards.Asked(dashboards.read())
    rules = demo.watched_rules(RULES, folder)
    with (
        Receiver() as receiver,
        Alertmanager(options.tools / "prometheus-alertmanager", folder / "alertmanager", receiver.url) as alertmanager,
        Prometheus(options.tools / "prometheus", folder / "prometheus", url, rules, alertmanager) as prometheus,
        demo.Onlooker(alertmanager) as onlooker,
    ):
        complaints = demo.unscraped(prometheus, SCRAPES_BEFORE_QUERIES)
        complaints += asked.complaints(prometheus)
        evaluated = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        for rule in evaluated:
            complaints += rule_complaints(asked, prometheus, rule)
        complaints += demo.alert_complaints(prometheus)
        complaints += demo.told_complaints(receiver, onlooker)
    told = len(receiver.heard)
    print(f"{asked.panels} panels, {asked.queries} queries, {len(evaluated)} rules, {told} notifications")
    return complaints


def rule_complaints(asked, prometheus, rule):
    """A healthy fleet fires nothing, so an alert's own result says little. That it can be evaluated, and that each
    label it selects by exists on that metric, can be asked."""
    if rule["health"] != "ok":
        yield f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}"
    expression = rule["query"]
    labels = {name: set() for name in METRIC.findall(re.sub(r'"[^"]*"', '""', expression))}
    for name, matchers in SELECTOR.findall(expression):
        labels.setdefault(name, set()).update(MATCHER.findall(re.sub(r'"[^"]*"', '""', matchers)))
    for name, wanted in labels.items():
        # What is recorded has a rule of its own, which is asked.
        if name in NOT_IN_THE_DEMO or ":" in name:
            continue
        present = ", ".join(f'{label}!=""' for label in sorted(wanted))
        complaint = asked.complaint_about(prometheus, f"count({name}{{{present}}})")
        if complaint:
            yield f"rule {rule['name']}: {complaint} for {name}{{{present}}}"


if __name__ == "__main__":
    main()
