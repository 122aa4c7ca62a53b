"""The seventeen rules of Grafana's dashboard linter, by their names there, and a few of ours.

The linter itself is a Go program that cannot be fetched everywhere; these are its rules as its documentation and its
sources describe them, asked of all panels and not only of those types that it looks at. Queries are judged by the tree
that Prometheus' own parser makes of them. `unheeded_mutants` breaks a good dashboard once for each rule: a rule that does
not see it is a complaint too.
"""

import copy
import json
import re

DATASOURCES = ("$datasource", "${datasource}")
# Of the units that Grafana knows, those that mean something here.
UNITS = (
    "none string short percent percentunit bytes decbytes dateTimeAsIso dateTimeAsSystem dateTimeAsLocal "
    "dateTimeFromNow ns µs ms s m h d dtdurationms dtdurations dthms dtdhms cps ops reqps rps wps cpm opm rpm wpm "
    "bool bool_yes_no bool_on_off"
).split()
QUERY_FUNCTIONS = ("label_names", "label_values", "metrics", "query_result")
# A range that nobody writes stands for $__rate_interval in a tree.
RATE_INTERVAL_SECONDS = 4242
SAMPLE_RANGE = {"$__rate_interval": f"{RATE_INTERVAL_SECONDS}s", "$__interval": "15s", "$__range": "1h"}
# Classic dashboards up to this version can be imported by Grafana 9 to 13.
SCHEMA_VERSION_MAX = 41
UID_LENGTH_MAX = 40


def complaints_about(dashboard, parse):
    """What each rule has against a dashboard; `parse` makes the tree of a query or raises a ValueError."""
    for rule, check in RULES.items():
        for complaint in check(dashboard, parse):
            yield f"{rule}: {complaint}"


def panels_of(dashboard):
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def queries_of(dashboard):
    """Each query with the place it stands in, annotations and variables included."""
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            yield f"annotation {annotation['name']}", annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            series, label = found.groups()
            yield f"variable {variable['name']}", f"count by ({label}) ({series})"


# --- the rules ---


def template_datasource(dashboard, _):
    sources = [variable for variable in variables(dashboard) if variable["type"] == "datasource"]
    if [(source["name"], source.get("label")) for source in sources] != [("datasource", "Data source")]:
        yield "there must be one variable `datasource`, labelled `Data source`"


def template_job(dashboard, _):
    yield from target_variable(dashboard, "job")


def template_instance(dashboard, _):
    yield from target_variable(dashboard, "instance")


def target_variable(dashboard, name):
    variable = next((variable for variable in variables(dashboard) if variable["name"] == name), None)
    if variable is None:
        yield f"there is no variable {name}"
        return
    if variable["type"] != "query" or variable["datasource"].get("uid") not in DATASOURCES:
        yield f"the variable {name} must be a query to the data source variable"
    if (variable.get("label"), variable.get("multi"), variable.get("allValue")) != (name.title(), True, ".+"):
        yield f"the variable {name} must be labelled {name.title()}, allow several, and have `.+` for all"


def template_label_promql(dashboard, parse):
    for variable in variables(dashboard):
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"([a-z_]+)\((.+?)(, \w+)?\)", variable["query"]["query"])
        if not found or found.group(1) not in QUERY_FUNCTIONS:
            yield f"the variable {variable['name']} asks for nothing that a Prometheus data source knows"
            continue
        try:
            parse(found.group(2))
        except ValueError as error:
            yield f"the variable {variable['name']}: {error}"


def template_on_time_change_reload(dashboard, _):
    for variable in variables(dashboard):
        if variable["type"] == "query" and variable.get("refresh") != 2:
            yield f"the variable {variable['name']} must be asked again when the time range changes"


def panel_datasource(dashboard, _):
    for panel in panels_of(dashboard):
        if panel.get("datasource", {}).get("uid") not in DATASOURCES and panel["type"] != "text":
            yield f"{panel['title']} must use the data source variable"


def panel_title_description(dashboard, _):
    for panel in panels_of(dashboard):
        if not panel.get("title") or not panel.get("description"):
            yield f"panel {panel['id']} needs a title and a description"


def panel_units(dashboard, _):
    for panel in panels_of(dashboard):
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        if unit not in UNITS and panel["type"] != "text":
            yield f"{panel['title']} has {unit!r} for its unit"


def panel_no_targets(dashboard, _):
    for panel in panels_of(dashboard):
        if not panel.get("targets") and panel["type"] != "text":
            yield f"{panel['title']} has no query"


def target_logql(dashboard, _):
    """Nothing here asks Loki, and whoever adds that must add a check of LogQL."""
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            if target.get("datasource", panel.get("datasource", {})).get("type") == "loki":
                yield f"{panel['title']} has a query in LogQL, which nothing here can parse"


def target_logql_auto(dashboard, _):
    for place, expression in queries_of(dashboard):
        if "$__auto" in expression:
            yield f"{place}: $__auto is for LogQL"


def target_promql(dashboard, parse):
    for place, expression in queries_of(dashboard):
        try:
            parse(expression)
        except ValueError as error:
            yield f"{place}: {error}"


def target_rate_interval(dashboard, parse):
    for place, parents, node in nodes(dashboard, parse, "matrixSelector"):
        whole = node["range"] == RATE_INTERVAL_SECONDS * 1000
        if calls(parents) in ("rate", "irate") and not whole:
            yield f"{place}: rate() must use $__rate_interval"


def target_job(dashboard, parse):
    yield from target_matcher(dashboard, parse, "job")


def target_instance(dashboard, parse):
    yield from target_matcher(dashboard, parse, "instance")


def target_matcher(dashboard, parse, name):
    wanted = {"name": name, "type": "=~", "value": f"${name}"}
    own = {f"variable {variable['name']}" for variable in variables(dashboard)}
    for kind in ("vectorSelector", "matrixSelector"):
        for place, _, node in nodes(dashboard, parse, kind):
            # What a variable offers cannot depend on variables that come after it.
            if wanted not in node["matchers"] and place not in own:
                yield f"{place}: {node['name']} is not selected by {name}"


def target_counter_agg(dashboard, parse):
    for place, _, node in nodes(dashboard, parse, "vectorSelector"):
        if node["name"].endswith("_total"):
            yield f"{place}: the counter {node['name']} is not in rate(), irate() or increase()"
    for place, parents, node in nodes(dashboard, parse, "matrixSelector"):
        if node["name"].endswith("_total") and calls(parents) not in ("rate", "irate", "increase"):
            yield f"{place}: the counter {node['name']} is not in rate(), irate() or increase()"


def uneditable_dashboard(dashboard, _):
    if dashboard.get("editable") is not False:
        yield "must not be editable: it would differ from the file"


def can_be_provisioned(dashboard, _):
    if "id" in dashboard or "__inputs" in dashboard or "__requires" in dashboard:
        yield "id, __inputs and __requires break provisioning"
    if not dashboard.get("uid") or len(dashboard["uid"]) > UID_LENGTH_MAX:
        yield f"needs a fixed uid of at most {UID_LENGTH_MAX} characters"
    if dashboard.get("schemaVersion", SCHEMA_VERSION_MAX + 1) > SCHEMA_VERSION_MAX:
        yield f"schemaVersion must be at most {SCHEMA_VERSION_MAX}"


def panels_have_room(dashboard, _):
    numbers = [panel["id"] for panel in dashboard["panels"]]
    if len(numbers) != len(set(numbers)):
        yield "two panels have the same id"
    taken = {}
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        columns = range(grid["x"], grid["x"] + grid["w"])
        cells = {(x, y) for x in columns for y in range(grid["y"], grid["y"] + grid["h"])}
        if any(x > 23 for x, _ in cells) or cells & taken.keys():
            yield f"{panel['title']} overlaps {next((taken[cell] for cell in cells if cell in taken), 'the edge')}"
        taken.update(dict.fromkeys(cells, panel["title"]))


RULES = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_job,
    "template-instance-rule": template_instance,
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-logql-rule": target_logql,
    "target-logql-auto-rule": target_logql_auto,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_job,
    "target-instance-rule": target_instance,
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard": uneditable_dashboard,
    # Ours.
    "can-be-provisioned": can_be_provisioned,
    "panels-have-room": panels_have_room,
}


# --- what they need ---


def variables(dashboard):
    return dashboard["templating"]["list"]


def nodes(dashboard, parse, kind):
    """Each node of that kind in all queries: where, the nodes above it, and itself."""
    for place, expression in queries_of(dashboard):
        try:
            tree = parse(expression)
        except ValueError:
            continue
        yield from ((place, *found) for found in below((), tree) if found[1]["type"] == kind)


def below(parents, node):
    if isinstance(node, list):
        for each in node:
            yield from below(parents, each)
    elif isinstance(node, dict):
        if "type" in node and node["type"] not in MATCHER_TYPES:
            yield parents, node
            parents = (*parents, node)
        for each in node.values():
            yield from below(parents, each)


def substituted(expression, values):
    """With Grafana's variables put in; the longest name first, since $__range is the beginning of another."""
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(name, values[name])
    return expression


def calls(parents):
    """The function whose argument this is."""
    return parents[-1].get("func", {}).get("name") if parents else None


MATCHER_TYPES = ("=", "!=", "=~", "!~")


# --- the rules' own test ---


def unheeded_mutants(dashboard, parse):
    """A dashboard broken once for each rule; those of which that rule sees nothing."""
    for rule, break_it in MUTANTS.items():
        broken = copy.deepcopy(dashboard)
        break_it(broken)
        if broken == dashboard:
            yield f"the fault for {rule} changes nothing"
        elif not list(RULES[rule](broken, parse)):
            yield f"{rule} does not see its fault"
    for rule in RULES.keys() - MUTANTS.keys():
        yield f"{rule} has no fault to see"


def set_variable(name, key, value):
    def change(dashboard):
        next(variable for variable in variables(dashboard) if variable["name"] == name)[key] = value

    return change


def set_panel(key, value):
    def change(dashboard):
        next(panels_of(dashboard))[key] = value

    return change


def replace_in_queries(before, after):
    def change(dashboard):
        text = json.dumps(dashboard["panels"])
        dashboard["panels"] = json.loads(text.replace(json.dumps(before)[1:-1], json.dumps(after)[1:-1]))

    return change


MUTANTS = {
    "template-datasource-rule": set_variable("datasource", "label", "Source"),
    "template-job-rule": set_variable("job", "multi", False),
    "template-instance-rule": set_variable("instance", "allValue", ".*"),
    "template-label-promql-rule": set_variable("job", "query", {"query": "label_values(up{job=}, job)"}),
    "template-on-time-change-reload-rule": set_variable("instance", "refresh", 1),
    "panel-datasource-rule": set_panel("datasource", {"type": "prometheus", "uid": "mine"}),
    "panel-title-description-rule": set_panel("description", ""),
    "panel-units-rule": set_panel("fieldConfig", {"defaults": {"unit": "second"}, "overrides": []}),
    "panel-no-targets-rule": set_panel("targets", []),
    "target-logql-rule": set_panel("targets", [{"datasource": {"type": "loki"}, "expr": "up"}]),
    "target-logql-auto-rule": set_panel("targets", [{"expr": "rate(x[$__auto])"}]),
    "target-promql-rule": set_panel("targets", [{"expr": "sum(up"}]),
    "target-rate-interval-rule": replace_in_queries("[$__rate_interval]", "[5m]"),
    "target-job-rule": replace_in_queries('job=~"$job"', 'job="$job"'),
    "target-instance-rule": replace_in_queries(', instance=~"$instance"', ""),
    "target-counter-agg-rule": set_panel("targets", [{"expr": "sum(oauth_keepalive_config_reloads_total)"}]),
    "uneditable-dashboard": lambda dashboard: dashboard.update(editable=True),
    "can-be-provisioned": lambda dashboard: dashboard.update(id=7),
    "panels-have-room": set_panel("gridPos", {"x": 20, "y": 0, "w": 8, "h": 4}),
}
