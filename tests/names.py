#!/usr/bin/env python3
"""Holds the names together: metrics, causes and alerts, in every file that speaks of them.

Fails when
- alerts/, grafana/, docs/ or the README name a metric that the golden scrape does not have,
- the golden scrape has a family that docs/metrics.md does not list, or lists with another type,
- an alert or a dashboard asks for a cause that the program does not know, or docs/metrics.md lacks one,
- an alert or a dashboard asks for an outcome, a code or the like that the golden scrape does not have,
- an alert lacks its runbook, a test that fires it, or a test in which it stays silent; or a runbook lacks its alert.

Needs nothing but Python. Takes no arguments.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden/metrics.txt"
CAUSES = ROOT / "src/core/cause.rs"
REFERENCE = ROOT / "docs/metrics.md"
RULES = ROOT / "alerts/oauth-keepalive.rules.yaml"
RUNBOOKS = ROOT / "docs/runbooks"
RUNBOOK_URL = "https://github.com/oauth-keepalive/oauth-keepalive/blob/main/docs/runbooks/"
HEALTHY = "none"

# Labels whose values are words of ours, so that a query may not ask for another one.
FIXED_LABELS = ("token", "code", "outcome", "result", "answer", "audience", "change", "reason")
METRIC = re.compile(r"\b(?:oauth_keepalive|process)_[a-z0-9_]*[a-z0-9]\b")
RUNBOOK_SECTIONS = ["## What it means", "## What users notice", "## Confirm", "## Mend", "## Silence"]


def main():
    missing = [path for path in (GOLDEN, CAUSES, REFERENCE, RULES, RUNBOOKS) if not path.exists()]
    if missing:
        sys.exit("\n".join(f"{path.relative_to(ROOT)} is missing" for path in missing))
    families, samples = scraped()
    complaints = [
        *unknown_metrics(families, samples),
        *undocumented_metrics(families),
        *wrong_causes(),
        *wrong_label_values(),
        *alerts_without_company(),
    ]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f"{len(families)} metrics, {len(alert_names())} alerts: {len(complaints)} complaints")
    sys.exit(bool(complaints))


def scraped():
    """The families of the golden scrape with their types, and every name that a query may use."""
    families, samples = {}, set()
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            families[name] = kind
        elif line and not line.startswith("#"):
            samples.add(re.match(r"[a-zA-Z_:][a-zA-Z0-9_:]*", line).group())
    if not families:
        sys.exit(f"{GOLDEN.relative_to(ROOT)} has no family")
    return families, samples


def unknown_metrics(families, samples):
    known = samples | set(families)
    for path in speaking_files():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for name in METRIC.findall(line):
                if name not in known:
                    yield f"{path.relative_to(ROOT)}:{number}: {name} does not occur in a scrape"


def speaking_files():
    for pattern in ("alerts/**/*.yaml", "grafana/**/*.json", "docs/**/*.md", "README.md"):
        yield from sorted(ROOT.glob(pattern))


def undocumented_metrics(families):
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (counter|gauge|histogram) \|", REFERENCE.read_text(), re.MULTILINE)
    documented = dict(rows)
    if len(rows) != len(documented):
        yield "docs/metrics.md lists a metric twice"
    for name, kind in families.items():
        if name not in documented:
            yield f"docs/metrics.md does not list {name}"
        elif documented[name] != kind:
            yield f"docs/metrics.md calls {name} a {documented[name]}; it is a {kind}"
    for name in documented.keys() - families.keys():
        yield f"docs/metrics.md lists {name}, which is no family of a scrape"


def wrong_causes():
    known = set(re.findall(r'Self::\w+ => "([a-z_]+)",', CAUSES.read_text())) | {HEALTHY}
    if len(known) < 2:
        yield f"no causes found in {CAUSES.relative_to(ROOT)}"
    for path in speaking_files():
        for values in re.findall(r'\bcause(?:=~?|!=|!~)\\?"([^"\\]*)\\?"', path.read_text()):
            for cause in values.split("|"):
                if cause not in known:
                    yield f"{path.relative_to(ROOT)}: the program knows no cause {cause!r}"
    table = REFERENCE.read_text().partition("## Causes")[2]
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) | {HEALTHY}
    for cause in sorted(known ^ documented):
        yield f"docs/metrics.md and {CAUSES.relative_to(ROOT)} differ about the cause {cause!r}"


def wrong_label_values():
    scrape = GOLDEN.read_text()
    for label in FIXED_LABELS:
        known = set(re.findall(rf'[{{,]{label}="([^"]*)"', scrape))
        for path in (RULES, *sorted((ROOT / "grafana").glob("*.json"))):
            for values in re.findall(rf'\b{label}(?:=~?|!=|!~)\\?"([^"\\]*)\\?"', path.read_text()):
                for value in set(values.split("|")) - known:
                    yield f"{path.relative_to(ROOT)}: no series of the golden scrape has {label}={value!r}"


def alert_names():
    return set(re.findall(r"^\s*- alert: (\w+)$", RULES.read_text(), re.MULTILINE))


def alerts_without_company():
    alerts = alert_names()
    runbooks = {path.stem for path in RUNBOOKS.glob("*.md")}
    for name in sorted(alerts - runbooks):
        yield f"docs/runbooks/{name}.md is missing"
    for name in sorted(runbooks - alerts):
        yield f"docs/runbooks/{name}.md has no alert"
    for name in sorted(alerts & runbooks):
        text = (RUNBOOKS / f"{name}.md").read_text()
        if not text.startswith(f"# {name}\n"):
            yield f"docs/runbooks/{name}.md must begin with its name"
        if re.findall("^## .*", text, re.MULTILINE) != RUNBOOK_SECTIONS:
            yield f"docs/runbooks/{name}.md needs the sections {', '.join(RUNBOOK_SECTIONS)}"
    yield from rules_that_point_elsewhere()
    tests = "".join(path.read_text() for path in sorted((ROOT / "alerts/tests").glob("*.yaml")))
    for name in sorted(alerts):
        if not re.search(rf"alertname: {name}\n\s+eval_time: \S+\n\s+exp_alerts:\n", tests):
            yield f"no test in alerts/tests fires {name} and reads its annotations"
        silent = rf"alertname: {name}[,\n]\s*eval_time: \w+[,\n]\s*exp_alerts: \[\]"
        exact_list = rf'ALERTS{{alertname="{name}"'
        if not re.search(f"{silent}|{exact_list}", tests):
            yield f"no test in alerts/tests shows {name} silent"


def rules_that_point_elsewhere():
    rules = re.split(r"^\s*- alert: ", RULES.read_text(), flags=re.MULTILINE)[1:]
    for rule in rules:
        name = rule.split("\n", 1)[0]
        if f"runbook_url: {RUNBOOK_URL}{name}.md\n" not in rule:
            yield f"{name} does not point at its own runbook"
        for key in ("severity:", "summary:", "description:"):
            if key not in rule:
                yield f"{name} has no {key[:-1]}"


if __name__ == "__main__":
    main()
