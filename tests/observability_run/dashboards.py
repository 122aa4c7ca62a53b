"""What is asked of the dashboards: Grafana's own types, the linter's rules, and data for every query.

Grafana itself is not here to draw them; README.md says what could therefore not be seen.
"""

import json
import re
import subprocess
import time
import urllib.error
from pathlib import Path

import lint
from servers import ROOT, Prometheus

DASHBOARDS = sorted((ROOT / "grafana").glob("*.json"))
PROVIDER_FILE = ROOT / "grafana/provisioning/dashboards/oauth-keepalive.yaml"

# Grafana's enums refuse the plain text that JSON has for them; their values do not. The keys that the Prometheus data
# source reads in an annotation are its own and no part of the schema.
TYPES = """import type { AnnotationQuery, Dashboard } from '@grafana/schema';
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Prometheus = { expr?: string, step?: `${number}s`, titleFormat?: string, textFormat?: string, tagKeys?: string,
  useValueForTime?: boolean };
type Annotated = Omit<Plain<Dashboard>, 'annotations'> &
  { annotations: { list: (Plain<AnnotationQuery> & Prometheus)[] } };
"""
# What the schema must refuse; each is put into a good dashboard.
MISTYPED = {
    "an unknown key": lambda dashboard: dashboard.update(refreshing="1m"),
    "a position in the wrong case": lambda dashboard: dashboard["panels"][1].update(gridpos={}),
    "a tooltip that is no number of the enum": lambda dashboard: dashboard.update(graphTooltip=7),
    "a title that is a number": lambda dashboard: dashboard.update(title=7),
    "no schemaVersion": lambda dashboard: dashboard.pop("schemaVersion"),
    "an unknown kind of variable": lambda dashboard: dashboard["templating"]["list"][0].update(type="source"),
    "an annotation with an unknown key": lambda dashboard: dashboard["annotations"]["list"][0].update(query="up"),
    "an unknown mode of colour": lambda dashboard: dashboard["panels"][1]["fieldConfig"]["defaults"].update(
        color={"mode": 7}
    ),
}

# Panels that may be empty while everything is well, each with its reason. Keep it short: a query that can be empty
# is a query whose misspelling nobody notices.
MAY_BE_EMPTY = {
    "Reconnects by link": "the demo makes no links",
    "Posts that wait": "the demo's publisher has no table of posts that could be asked",
    "Publisher's logs and tables": "and none of its logs is watched",
}
# What Grafana would put in.
VALUES = {
    "$__rate_interval": "15s",
    "$__interval": "15s",
    "$__range": "1h",
    "$job": ".+",
    "$instance": ".+",
    "$provider": ".+",
    "$account": ".+",
}
# The words for what is empty where per-account series are switched off.
NEEDS_ACCOUNTS = "needs per-account series"
# After the scrapes, queries that return no data yet are tried again for so long, all together: some counters move
# only now and then.
PATIENCE_SECONDS = 40


def read():
    return {path.name: json.loads(path.read_text()) for path in DASHBOARDS}


def type_complaints(dashboards, home, node):
    """TypeScript's word on each dashboard, and on each of `MISTYPED`."""
    files = dict(dashboards)
    good = next(iter(dashboards.values()))
    for what, break_it in MISTYPED.items():
        files[what] = json.loads(json.dumps(good))
        break_it(files[what])
    folder = Path(home) / "checked"
    folder.mkdir(exist_ok=True)
    for number, (name, dashboard) in enumerate(files.items()):
        text = f"{TYPES}export const dashboard: Annotated = {json.dumps(dashboard)};\n"
        (folder / f"d{number}.ts").write_text(text)
    options = "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --pretty false".split()
    compiler = f"{home}/node_modules/typescript/bin/tsc"
    names = [f"checked/d{number}.ts" for number in range(len(files))]
    told = subprocess.run([node, compiler, *options, *names], cwd=home, capture_output=True, text=True)
    errors = {}
    for number, error in re.findall(r"^checked/d(\d+)\.ts\([\d,]+\): (error .*)$", told.stdout, re.MULTILINE):
        errors.setdefault(int(number), error)
    if told.returncode and not errors:
        yield f"TypeScript itself failed: {told.stdout}{told.stderr}"
    for number, name in enumerate(files):
        if name in dashboards and number in errors:
            yield f"{name}: @grafana/schema: {errors[number][:400]}"
        if name in MISTYPED and number not in errors:
            yield f"@grafana/schema does not refuse {name}"


def lint_complaints(dashboards, binary, folder):
    """The rules need a Prometheus for its parser; it scrapes nothing."""
    with Prometheus(binary, folder) as prometheus:
        trees = {}

        def parse(expression):
            whole = lint.substituted(expression, lint.SAMPLE_RANGE)
            if whole not in trees:
                try:
                    trees[whole] = prometheus.parse(whole)
                except ValueError as error:
                    trees[whole] = error
            if isinstance(trees[whole], ValueError):
                raise trees[whole]
            return trees[whole]

        for name, dashboard in dashboards.items():
            yield from (f"{name}: {complaint}" for complaint in lint.complaints_about(dashboard, parse))
            yield from (f"{name}: {complaint}" for complaint in lint.unheeded_mutants(dashboard, parse))


def refused_queries(dashboards, binary, folder):
    """An older Prometheus has no tree to show, but refuses what it cannot parse."""
    with Prometheus(binary, folder) as prometheus:
        for name, dashboard in dashboards.items():
            for place, expression in lint.queries_of(dashboard):
                try:
                    prometheus.query(lint.substituted(expression, VALUES))
                except urllib.error.HTTPError as error:
                    yield f"{name}: {place}: {binary}: {json.load(error).get('error')}"


def folder_complaints():
    """Grafana reads a provisioning file of each kind; they must name what there is."""
    if "type: file" not in PROVIDER_FILE.read_text():
        yield f"{PROVIDER_FILE.relative_to(ROOT)} provides no files"
    uids = [dashboard["uid"] for dashboard in read().values()]
    if len(uids) != len(set(uids)):
        yield "two dashboards have the same uid"
    for name, dashboard in read().items():
        for uid in re.findall(r"/d/([\w-]+)", json.dumps(dashboard)):
            if uid not in uids:
                yield f"{name} links to the dashboard {uid}, which is not there"


class Asked:
    """Every query of the dashboards, asked of a Prometheus that scrapes the real thing."""

    def __init__(self, dashboards):
        self.dashboards = dashboards
        self.queries = sum(len(list(lint.queries_of(dashboard))) for dashboard in dashboards.values())
        self.panels = sum(len(list(lint.panels_of(dashboard))) for dashboard in dashboards.values())

    def complaints(self, prometheus):
        self.patience_ends = time.monotonic() + PATIENCE_SECONDS
        for name, dashboard in self.dashboards.items():
            for place, expression in lint.queries_of(dashboard):
                expression = lint.substituted(expression, VALUES)
                if "$" in expression:
                    yield f"{name}: {place}: a variable that nobody knows here\n    {expression}"
                    continue
                complaint = self.complaint_about(prometheus, expression)
                if complaint and place not in MAY_BE_EMPTY:
                    yield f"{name}: {place}: {complaint}\n    {expression}"
            yield from (f"{name}: {complaint}" for complaint in self.wrong_promises(prometheus, dashboard))

    def complaint_about(self, prometheus, expression):
        """Why the query is of no use, or None."""
        while True:
            try:
                result = prometheus.query(expression)
            except urllib.error.HTTPError as error:
                return json.load(error).get("error", "refused")
            if any(sample["value"][1] != "NaN" for sample in result):
                return None
            if time.monotonic() > self.patience_ends:
                return "nothing but NaN" if result else "no data"
            time.sleep(1)

    def wrong_promises(self, prometheus, dashboard):
        """Without the series of accounts, exactly what says so is empty. They are left out by asking for none."""
        row = ""
        for panel in dashboard["panels"]:
            if panel["type"] == "row":
                row = panel["title"]
            if not panel.get("targets") or panel["title"] in MAY_BE_EMPTY:
                continue
            asked = [
                re.sub(r"\{(?=job=~)", '{account="", ', lint.substituted(target["expr"], VALUES))
                for target in panel["targets"]
            ]
            empty = not any(prometheus.query(expression) for expression in asked)
            said = any(NEEDS_ACCOUNTS in text for text in (row, panel["description"], whole_page(dashboard)))
            if empty and not said:
                yield f"{panel['title']}: is empty without per-account series and does not say so"
            if said and not empty:
                yield f"{panel['title']}: says that it {NEEDS_ACCOUNTS}, and has data without"


def whole_page(dashboard):
    found = re.search(r"Every panel " + NEEDS_ACCOUNTS, dashboard["description"])
    return found.group() if found else ""
