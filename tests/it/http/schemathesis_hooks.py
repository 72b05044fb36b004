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
    if case.operation.method == "post":
        body = case.body if isinstance(case.body, dict) else {}
        # A field is in the query or in the body.
        for field in [field for field in query if body.get(field) is not None]:
            del query[field]
        # And this one needs another one.
        if "max_hours" not in query and body.get("max_hours") is None:
            query.pop("include_governed", None)
            body.pop("include_governed", None)
