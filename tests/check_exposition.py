#!/usr/bin/env python3
"""Reads the golden scrapes, or the files named, with the strict parsers of Python's prometheus_client.

Exits 1 with one line for each thing that is wrong.
"""

import pathlib
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic

# What people asked for; a dashboard without these is not the one that was promised.
ASKED_FOR = {
    "oauth_keepalive_token_age_seconds": {"token": "access"},
    "oauth_keepalive_token_expires_in_seconds": {"token": "access"},
    "oauth_keepalive_api_responses_total": {"code": "401"},
}
GOLDEN = pathlib.Path(__file__).parent / "golden"


def problems(path):
    text = path.read_text(encoding="utf-8")
    parse = open_metrics if text.endswith("# EOF\n") else classic
    try:
        families = list(parse(text))
    except ValueError as error:
        yield f"{path}: {error}"
        return
    samples = [sample for family in families for sample in family.samples]
    seen = set()
    for sample in samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in seen:
            yield f"{path}: {key} is there twice"
        seen.add(key)
    for family in families:
        if not family.documentation:
            yield f"{path}: {family.name} has no HELP"
    for name, labels in ASKED_FOR.items():
        found = [s for s in samples if s.name == name and labels.items() <= s.labels.items()]
        if not found:
            yield f"{path}: no series {name} with {labels}"
        for sample in found:
            if not {"provider", "account"} <= sample.labels.keys():
                yield f"{path}: {name} lacks provider or account"


def main():
    paths = [pathlib.Path(name) for name in sys.argv[1:]] or sorted(GOLDEN.glob("metrics.*"))
    if not paths:
        sys.exit(f"{GOLDEN}: no golden scrape is there")
    found = [problem for path in paths for problem in problems(path)]
    print("\n".join(found) if found else f"{len(paths)} scrapes read without complaint")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
