"""What the API asks of a request that OpenAPI has no words for.

Queries and bodies that should be accepted are made so here. Those that should be refused stay as they are; input.rs has these
cases too.
"""

import schemathesis
from schemathesis.core.parameters import ParameterLocation


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
    if case.operation.method == "post":
        body = case.body if isinstance(case.body, dict) else {}
        # A field is in the query or in the body.
        for field in [field for field in query if body.get(field) is not None]:
            del query[field]
        given = lambda field: query.get(field) if field in query else body.get(field)
        # Two of them mean the same, and no length is none.
        if given("max_hours") is not None or not str(given("older_than") or "1").strip("0hms"):
            query.pop("older_than", None)
            body.pop("older_than", None)
        # Ids are those of a store.
        if body.get("ids") is not None:
            body["ids"] = ["1", "2"]
            if given("store") is None:
                del body["ids"]
        # And this one needs another one.
        if all(given(field) is None for field in ("max_hours", "older_than", "ids")):
            query.pop("include_governed", None)
            body.pop("include_governed", None)
