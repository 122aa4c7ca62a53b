#!/usr/bin/env python3
"""Holds the names together: metrics, labels, causes, alerts and configuration keys, in every file that speaks of them.

    tests/names.py [--scrape FILE]...

Fails when
- alerts/, grafana/, docs/, the README or the configuration's manual name a metric that the golden scrape does not have,
- they select, group or print by a label that the metric, or any metric, does not have, or by a value that cannot be,
- the golden scrape, or one of FILE from a running sidecar, has a family or a label that docs/metrics.md does not list,
  or docs/metrics.md lists one that is not there, or lists it with another type,
- they name a cause, an alert, a recording rule, a command or a configuration key that does not exist,
- a link leads to no file or to no heading,
- a command line has a flag that its command has not,
- an alert lacks its runbook, a test that fires it, or a test in which it stays silent; a runbook lacks its alert, a part, or
  a panel that links to it, shows no real output of a command, or shows other metrics than its command would print.

tests/exposition.rs holds the golden scrape to what the program writes. Needs nothing but Python.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden/metrics.txt"
CAUSES = ROOT / "src/core/cause.rs"
COMMANDS = ROOT / "src/cli/mod.rs"
REFERENCE = ROOT / "docs/metrics.md"
MANUAL = ROOT / "config.example.yaml"
README = ROOT / "README.md"
RULES = ROOT / "alerts/oauth-keepalive.rules.yaml"
RUNBOOKS = ROOT / "docs/runbooks"
REPOSITORY = "https://github.com/oauth-keepalive/oauth-keepalive/"
RUNBOOK_URL = REPOSITORY + "blob/main/docs/runbooks/"
HEALTHY = "none"

# Labels whose values are words of ours, so that a query may not ask for another one.
FIXED_LABELS = (
    "token", "code", "outcome", "result", "answer", "audience", "change", "reason", "gate", "provenance", "moves",
    "from", "by", "to", "action",
)
# What Prometheus, Alertmanager and a bucket add of their own.
OTHER_LABELS = {"job", "instance", "le", "alertname", "alertstate", "severity", "__name__"}
ACCOUNT_LABELS = {"provider", "account"}
SPEAKING = (
    "alerts/**/*.yaml", "grafana/**/*.json", "deploy/**/*.yaml", "docs/**/*.md", "README.md", "config.example.yaml",
)
METRIC = re.compile(r"(?<![:\w])(?:oauth_keepalive|process)_[a-z0-9_]*[a-z0-9]\b(?!:)")
RECORDED = re.compile(r"\b[a-z]+:oauth_keepalive_[a-z0-9_]+:[a-z0-9_]+\b")
SELECTED = re.compile(r'(?<![:\w])((?:oauth_keepalive|process)_[a-z0-9_]+)\{((?:[^{}"\\]|\\?"(?:[^"\\]|\\.)*?\\?")*)\}')
MATCHED = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*\\?"([^"\\]*)')
ALERT = re.compile(r"\bOAuth[A-Z][A-Za-z]+\b(?!\.\*)")
KEY = re.compile(r"`([a-z_]+(?:\[\])?(?:\.[a-z_]+(?:\[\])?)+)(?::[^`]*)?`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^\$ oauth-keepalive ([a-z]+)|`oauth-keepalive ([a-z]+)", re.MULTILINE)
COMMAND_LINE = re.compile(r"(?:^\$ |`)oauth-keepalive ([a-z]+)([^`|#\n]*)")
FLAG = re.compile(r"(?<=\s)--([a-z][a-z.-]*)")
# A metric, cause, label, value or key in backticks, as runbooks call them for short.
SHORT_NAME = re.compile(r"`([a-z]+(?:_[a-z]+)+)(?:\{[^`]*)?`")
SECTION = re.compile(r"`([a-z_]+):`")
GREP = re.compile(r"\| *grep ((?:-[a-zA-Z]+ )*)(?:'([^']*)'|([^\s|;]+))")
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)( \S+)?')
ROW = re.compile(r"^\| `([a-z0-9_]+)` \| (counter|gauge|histogram) \| (.*?) \|", re.MULTILINE)
FILE_IN_REPOSITORY = re.compile(re.escape(REPOSITORY) + r"(?:blob|tree)/main/([^\s)\"'\\]+)")
RUNBOOK_SECTIONS = ["## What it means", "## What users notice", "## Confirm", "## Mend", "## Silence"]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scrape", action="append", default=[], type=Path, metavar="FILE", help="of a sidecar")
    options = options.parse_args()
    needed = (GOLDEN, CAUSES, COMMANDS, REFERENCE, MANUAL, RULES, RUNBOOKS)
    missing = [path for path in needed if not path.exists()]
    if missing:
        sys.exit("\n".join(f"{path.relative_to(ROOT)} is missing" for path in missing))
    golden = Scrape(GOLDEN)
    complaints = [
        *unknown_metrics(golden),
        *undocumented_metrics(golden),
        *wrong_labels(golden),
        *wrong_label_values(golden),
        *wrong_causes(),
        *wrong_recordings(),
        *unknown_alerts(),
        *unknown_keys(),
        *unknown_commands(),
        *unknown_flags(),
        *dead_links(),
        *alerts_without_company(),
        *runbook_complaints(golden),
        *(complaint for path in options.scrape for complaint in undocumented_live(Scrape(path))),
    ]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    counts = (golden.families, "metrics"), (golden.all_labels, "labels"), (alert_names(), "alerts"), (keys(), "keys")
    print(f"{', '.join(f'{len(what)} {name}' for what, name in counts)}: {len(complaints)} complaints")
    sys.exit(bool(complaints))


class Scrape:
    """The families of a scrape with their types, and each name that a query may use with its labels."""

    def __init__(self, path):
        self.path, self.text = path, path.read_text()
        self.families, self.labels = {}, {}
        for line in self.text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.families[name] = kind
            elif line and not line.startswith("#"):
                name, labels = re.match(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\} )?", line).groups()
                self.labels.setdefault(name, set()).update(re.findall(r'(?:^|,)([a-z_]+)="', labels or ""))
        if not self.families:
            sys.exit(f"{path} has no family")
        self.all_labels = set().union(*self.labels.values())

    def family_labels(self, family):
        found = [labels for name, labels in self.labels.items() if name == family or name in histogram_series(family)]
        return set().union(*found) - {"le"}


def histogram_series(family):
    return {f"{family}_bucket", f"{family}_sum", f"{family}_count"}


def speaking_files():
    for pattern in SPEAKING:
        yield from sorted(ROOT.glob(pattern))


def pages():
    yield from sorted(ROOT.glob("docs/**/*.md"))
    yield from (ROOT / "README.md", ROOT / "CHANGELOG.md")


def lines_of(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        yield f"{path.relative_to(ROOT)}:{number}", line


def unknown_metrics(golden):
    known = golden.labels.keys() | golden.families.keys()
    for path in speaking_files():
        for place, line in lines_of(path):
            for name in METRIC.findall(line):
                if name not in known:
                    yield f"{place}: {name} does not occur in a scrape"


def undocumented_metrics(golden):
    rows = documented()
    names = [row[0] for row in rows]
    if len(names) != len(set(names)):
        yield "docs/metrics.md lists a metric twice"
    types = {name: kind for name, kind, _ in rows}
    for name, kind in golden.families.items():
        if name not in types:
            yield f"docs/metrics.md does not list {name}"
        elif types[name] != kind:
            yield f"docs/metrics.md calls {name} a {types[name]}; it is a {kind}"
    for name in types.keys() - golden.families.keys():
        yield f"docs/metrics.md lists {name}, which is no family of a scrape"
    for name, _, labels in rows:
        there = golden.family_labels(name)
        if labels != there and name in golden.families:
            yield f"docs/metrics.md gives {name} the labels {sorted(labels)}; a scrape has {sorted(there)}"


def undocumented_live(scrape):
    """A running sidecar may leave families out, but may show nothing that is not written down."""
    rows = {name: (kind, labels) for name, kind, labels in documented()}
    for name, kind in scrape.families.items():
        if name not in rows or rows[name][0] != kind:
            yield f"{scrape.path}: {name}, a {kind}, is not in docs/metrics.md"
        elif not scrape.family_labels(name) <= rows[name][1]:
            yield f"{scrape.path}: {name} has labels that docs/metrics.md does not list"


def documented():
    """Name, type and labels of each metric in docs/metrics.md."""
    rows = []
    text = REFERENCE.read_text()
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        common = ACCOUNT_LABELS if section.startswith("Per account") else set()
        has_labels = re.search(r"^\| name \| type \| (further )?labels \|", section, re.MULTILINE)
        for name, kind, third in ROW.findall(section):
            # `a` = `x`, `y`; `b="x"`: only what stands before an equals sign, or alone, is a label.
            before_values = "; ".join(part.split(" = ")[0] for part in third.split(";"))
            found = re.findall(r'`([a-z_]+)(?:="[^"]*")?`(?!,? `)', before_values)
            found += re.findall(r"`([a-z_]+)`, (?=`)", before_values)
            rows.append((name, kind, common | set(found) if has_labels else set()))
    return rows


def wrong_labels(golden):
    known = golden.all_labels | OTHER_LABELS
    yield from wrong_labels_in_the_readme(golden)
    for path in speaking_files():
        for place, line in lines_of(path):
            for name, matchers in SELECTED.findall(line):
                for label, _, _ in MATCHED.findall(matchers):
                    if label not in golden.labels.get(name, golden.family_labels(name)) | OTHER_LABELS:
                        yield f"{place}: {name} has no label {label!r}"
            if path.suffix == ".md":
                continue
            grouped = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right) ?\(([a-z_, ]*)\)", line)
            printed = re.findall(r"\$labels\.([a-z_]+)", line) + re.findall(r"\{\{ *([a-z_]+) *\}\}", line)
            equal = re.findall(r"^\s*(?:equal|group_by): \[([a-z_, ]*)\]", line)
            for label in [label for group in grouped + equal for label in re.findall(r"[a-z_]+", group)] + printed:
                if label not in known and label not in ("else", "end"):
                    yield f"{place}: no metric has a label {label!r}"
            for label, _, _ in MATCHED.findall("".join(re.findall(r"matchers: *\[(.*)\]", line))):
                if label not in known:
                    yield f"{place}: no metric has a label {label!r}"


def wrong_labels_in_the_readme(golden):
    """Its table of the metrics that are asked for most: further labels, and which values they have."""
    common = re.search(r"labels `([a-z]+)` and `([a-z]+)`:", README.read_text())
    if not common or set(common.groups()) != ACCOUNT_LABELS:
        yield f"README.md: the labels of every account are {sorted(ACCOUNT_LABELS)}"
    for place, line in lines_of(README):
        row = re.match(r"\| `(oauth_keepalive_[a-z_]+)` \| ([^|]*) \|", line)
        if not row:
            continue
        name, cell = row.groups()
        label, _, values = cell.partition(" = ")
        labels = set(re.findall(r"`([a-z_]+)`", label))
        if labels != golden.family_labels(name) - ACCOUNT_LABELS:
            yield f"{place}: {name} has not the further labels {sorted(labels)}"
        known = set(re.findall(rf'[{{,](?:{"|".join(labels)})="([^"]*)"', golden.text))
        for value in set(re.findall(r"`([^`]+)`", values)) - known:
            yield f"{place}: {name} has no value {value!r}"


def wrong_label_values(golden):
    for path in speaking_files():
        for place, line in lines_of(path):
            for name, matchers in SELECTED.findall(line):
                for label, _, values in MATCHED.findall(matchers):
                    if label not in FIXED_LABELS or path.match("alerts/tests/*"):
                        continue
                    known = set(re.findall(rf'[{{,]{label}="([^"]*)"', golden.text))
                    for value in set(values.split("|")) - known - {""}:
                        yield f"{place}: no series of the golden scrape has {label}={value!r}"


def wrong_causes():
    known = set(re.findall(r'Self::\w+ => "([a-z_]+)",', CAUSES.read_text())) | {HEALTHY}
    if len(known) < 2:
        yield f"no causes found in {CAUSES.relative_to(ROOT)}"
    for path in speaking_files():
        for place, line in lines_of(path):
            for values in re.findall(r'\bcause(?:=~?|!=|!~)\\?"([^"\\]*)\\?"', line):
                for cause in values.split("|"):
                    if cause not in known:
                        yield f"{place}: the program knows no cause {cause!r}"
    table = REFERENCE.read_text().partition("## Causes")[2]
    documented_ones = set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) | {HEALTHY}
    for cause in sorted(known ^ documented_ones):
        yield f"docs/metrics.md and {CAUSES.relative_to(ROOT)} differ about the cause {cause!r}"


def wrong_recordings():
    rules = RULES.read_text()
    recorded = set(re.findall(r"^\s*- record: (\S+)$", rules, re.MULTILINE))
    for name in sorted(recorded):
        if not RECORDED.fullmatch(name):
            yield f"{name} is not level:oauth_keepalive_metric:operations"
        if len(re.findall(re.escape(name) + r"\b", rules)) < 2:
            yield f"{name} is recorded and not used"
    for path in speaking_files():
        for place, line in lines_of(path):
            for name in RECORDED.findall(line):
                if name not in recorded:
                    yield f"{place}: {name} is not recorded"


def unknown_alerts():
    known = alert_names()
    for path in (*speaking_files(), ROOT / "CHANGELOG.md"):
        for place, line in lines_of(path):
            for name in ALERT.findall(line):
                if name not in known:
                    yield f"{place}: there is no alert {name}"


def keys():
    """Every key of the configuration with its path, from the manual: also those whose # has to be taken away."""
    found, open_keys = set(), []
    for line in MANUAL.read_text().splitlines():
        key = re.match(r"^( *)(#?)(- )?\{?([a-z_]+):(?= |$)", line)
        if not key:
            continue
        depth = len(key.group(1)) + len(key.group(3) or "")
        open_keys = [(at, name) for at, name in open_keys if at < depth] + [(depth, key.group(4))]
        path = ".".join(name for _, name in open_keys)
        found.add(path)
        found.update(f"{path}.{inner}" for inner in re.findall(r"[{,] ?([a-z_]+): ", line[key.end() :]))
    return found


def unknown_keys():
    known = keys()
    sections = {key for key in known if "." not in key}
    for path in (*pages(), *ROOT.glob("alerts/*.yaml"), MANUAL):
        for place, line in lines_of(path):
            for key in KEY.findall(line):
                plain = key.replace("[]", "")
                is_file = plain.rsplit(".", 1)[-1] in FILE_ENDINGS
                if plain.split(".")[0] in sections and plain not in known and not is_file:
                    yield f"{place}: the configuration has no key {key!r}"
            for section in SECTION.findall(line) if path != MANUAL else ():
                if not any(section in key.split(".") for key in known):
                    yield f"{place}: the configuration has no key {section!r}"
        for place, key in shown_keys(path) if path != PROVIDER_FILES else ():
            if key.split(".")[0] in sections and key not in known:
                yield f"{place}: the configuration has no key {key!r}"


# Shows files of another form, with sections of the same names.
PROVIDER_FILES = ROOT / "docs/providers.md"
FILE_ENDINGS = ("rs", "py", "md", "yaml", "yml", "json", "db", "csv")


def shown_keys(path):
    """The keys of the YAML that a page shows."""
    inside, open_keys = False, []
    for place, line in lines_of(path):
        if line.startswith("```"):
            inside, open_keys = line == "```yaml", []
        key = re.match(r"^( *)(- )?([a-z_]+):(?= |$)", line)
        if not inside or not key:
            continue
        depth = len(key.group(1)) + len(key.group(2) or "")
        open_keys = [(at, name) for at, name in open_keys if at < depth] + [(depth, key.group(3))]
        yield place, ".".join(name for _, name in open_keys)


def unknown_commands():
    declared = COMMANDS.read_text().partition("enum Command {")[2].partition("\n}\n")[0]
    known = {name.lower() for name in re.findall(r"^    ([A-Z]\w+)", declared, re.MULTILINE)} | {"help"}
    for path in pages():
        for place, line in lines_of(path):
            for found in COMMAND.findall(line):
                name = found[0] or found[1]
                if name not in known:
                    yield f"{place}: there is no command `oauth-keepalive {name}`"


def unknown_flags():
    """Of command lines that are to be copied. A command's flags stand in its file, those of every command in the first."""
    of_all = declared_flags(COMMANDS) | {"help", "version"}
    for path in pages():
        for place, line in lines_of(path):
            for command, arguments in COMMAND_LINE.findall(line):
                file = COMMANDS.with_name(f"{command}.rs")
                if not file.exists():
                    file = COMMANDS.with_name("gate.rs")
                known = of_all | declared_flags(file)
                for flag in FLAG.findall(arguments):
                    if flag not in known:
                        yield f"{place}: `oauth-keepalive {command}` has no flag --{flag}"


def declared_flags(path):
    """What clap makes of `#[arg(long)]`, also in structures of another file that are flattened into it."""
    text = path.read_text()
    flags = set(re.findall(r'(?:long|alias) ?= ?"([a-z.-]+)"', text))
    flags |= set(re.findall(r'(?:long|alias)\("([a-z.-]+)"\)', text))
    for attribute, field in re.findall(r"#\[arg\((.*?)\)\]\s*(?:pub(?:\([a-z]+\))? )?([a-z_]+):", text, re.DOTALL):
        if re.search(r"\blong\b(?! ?=)", attribute):
            flags.add(field.replace("_", "-"))
    if re.search(r"#\[command\(flatten\)\]", text) and path != COMMANDS:
        flags |= declared_flags(COMMANDS.with_name("web.rs"))
    return flags


def dead_links():
    for path in (*pages(), *speaking_files()):
        for place, line in lines_of(path):
            targets = [(path.parent, target) for target in LINK.findall(line) if path.suffix == ".md"]
            targets += [(ROOT, target) for target in FILE_IN_REPOSITORY.findall(line)]
            for folder, target in targets:
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, heading = target.partition("#")
                file = (folder / name).resolve() if name else path
                if not file.exists():
                    yield f"{place}: {target} does not exist"
                elif heading and heading not in headings(file):
                    yield f"{place}: {target} has no such heading"


def headings(path):
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def alert_names():
    return set(re.findall(r"^\s*- alert: (\w+)$", RULES.read_text(), re.MULTILINE))


def alerts_without_company():
    alerts = alert_names()
    runbooks = {path.stem for path in RUNBOOKS.glob("*.md")}
    for name in sorted(alerts - runbooks):
        yield f"docs/runbooks/{name}.md is missing"
    for name in sorted(runbooks - alerts):
        yield f"docs/runbooks/{name}.md has no alert"
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


def runbook_complaints(golden):
    panels = "".join(path.read_text() for path in ROOT.glob("grafana/*.json"))
    words = short_words(golden)
    for path in sorted(RUNBOOKS.glob("*.md")):
        if f"{RUNBOOK_URL}{path.name}" not in panels:
            yield f"no panel in grafana/ links to {path.relative_to(ROOT)}"
        for place, line in lines_of(path):
            yield from (f"{place}: nothing is called {word}" for word in SHORT_NAME.findall(line) if word not in words)
        place, text = path.relative_to(ROOT), path.read_text()
        if not text.startswith(f"# {path.stem}\n"):
            yield f"{place} must begin with its name"
        if re.findall("^## .*", text, re.MULTILINE) != RUNBOOK_SECTIONS:
            yield f"{place} needs the sections {', '.join(RUNBOOK_SECTIONS)}"
            continue
        if any(not part.strip() for part in re.split("^## .*", text, flags=re.MULTILINE)[1:]):
            yield f"{place} has an empty section"
        confirm = text.partition("## Confirm\n")[2].partition("## Mend\n")[0]
        shown = re.findall(r"^```console\n(.*?)^```", confirm, re.MULTILINE | re.DOTALL)
        lines = [line for block in shown for line in block.splitlines()]
        if not any(line.startswith("$ ") for line in lines) or not any(not line.startswith("$ ") for line in lines):
            yield f"{place} shows no command with its output under Confirm"
        for line in lines:
            if line.startswith("oauth_keepalive_") and not is_sample(golden, line):
                yield f"{place}: no scrape has a line like {line}"
        for block in shown:
            yield from (f"{place}: {complaint}" for complaint in output_complaints(golden, block))


def short_words(golden):
    metrics = golden.labels.keys() | golden.families.keys()
    causes = re.findall(r'Self::\w+ => "([a-z_]+)",', CAUSES.read_text())
    words = {name.removeprefix("oauth_keepalive_") for name in metrics} | metrics | golden.all_labels | OTHER_LABELS
    words |= {part for key in keys() for part in key.split(".")}
    return words | set(causes) | set(re.findall(r'="([^"]*)"', golden.text))


def output_complaints(golden, block):
    """What a command under Confirm shows is what it prints: each line passes its greps, and no metric that does is left out
    but where it says so by `…`."""
    for command, output in re.findall(r"^\$ (curl .*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        wanted = [(flags, quoted or plain) for flags, quoted, plain in GREP.findall(command)]
        samples = [line for line in output.splitlines() if SAMPLE.fullmatch(line)]
        for line in samples:
            if not passes(line, wanted):
                yield f"`{command}` does not print {line}"
        if not wanted or "/metrics" not in command or "…" in output:
            continue
        # Which account it is about, and what is wrong with it, is another matter in the golden scrape.
        wanted = [one for one in wanted if "=" not in one[1]]
        printed = {SAMPLE.match(line).group(1) for line in golden.text.splitlines() if line[:1] != "#" and passes(line, wanted)}
        for name in sorted(printed - {SAMPLE.match(line).group(1) for line in samples}):
            if golden.labels[name] >= ACCOUNT_LABELS or "account=" not in command:
                yield f"`{command}` prints {name} too"


def passes(line, wanted):
    return all(bool(re.search(pattern, line)) != ("v" in flags) for flags, pattern in wanted)


def is_sample(golden, line):
    found = SAMPLE.fullmatch(line)
    if not found or found.group(1) not in golden.labels:
        return False
    labels = set(re.findall(r'(?:^|[{,])([a-z_]+)="', found.group(2) or ""))
    return labels == golden.labels[found.group(1)]


if __name__ == "__main__":
    main()
