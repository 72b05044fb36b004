"""What the API asks of a request that OpenAPI has no words for.

Queries and bodies that should be accepted are made so here. Those that should be refused stay as they are; input.rs has these
cases too.
"""

import re

import schemathesis
from schemathesis.core.parameters import ParameterLocation

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(text):
    return sum(int(count) * UNITS[unit] for count, unit in re.findall("([0-9]+)(ms|d|h|m|s)", str(text)))


@schemathesis.hook
def before_call(context, case, kwargs):
    parts = case.meta.components if case.meta else {}
    asked = [parts[place] for place in (ParameterLocation.QUERY, ParameterLocation.BODY) if place in parts]
    if not all(part.mode.is_positive for part in asked):
        return
    query = case.query or {}
    # Only a page that was told before has a cursor; all of them begin so.
    if not str(query.get("cursor", "eyJ")).startswith("eyJ"):
        del query["cursor"]
    # Who names a store must know what its ids look like.
    if "store" in query:
        for name in ("job", "id"):
            if not str(query.get(name, "1")).isdecimal():
                del query[name]
    # A time to look back over is some time, and not too long; a step divides it into points, and not too many.
    if case.operation.path in ("/api/system/stats", "/api/system/trends"):
        if not 0 < seconds(query.get("since", "24h")) <= 720 * 3600:
            del query["since"]
        since, step = seconds(query.get("since", "24h")), seconds(query.get("step", "5m"))
        if step % 1 or not max(60, since / 1500) <= step <= since:
            query.pop("step", None)
    if case.operation.method == "post":
        body = case.body if isinstance(case.body, dict) else {}
        # A field is in the query or in the body.
        for field in [field for field in query if body.get(field) is not None]:
            del query[field]
        given = lambda field: query.get(field) if field in query else body.get(field)
        # Two of them mean the same, and no length is none.
        if given("max_hours") is not None or not str(given("older_than") or "1").strip("0dhms"):
            query.pop("older_than", None)
            body.pop("older_than", None)
        # Ids are those of a store.
        if body.get("ids") is not None:
            body["ids"] = ["1", "2"]
            if given("store") is None:
                del body["ids"]
        # What is suspected goes alone.
        if given("reason") is not None:
            for field in ("max_hours", "older_than", "ids"):
                query.pop(field, None)
                body.pop(field, None)
        # And this one needs another one.
        if all(given(field) is None for field in ("max_hours", "older_than", "ids")):
            query.pop("include_governed", None)
            body.pop("include_governed", None)
