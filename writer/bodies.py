"""From the bytes of a body to its fields. All faults are named at once, each with the rule it breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

import msgspec

from tidemark.problem import Problem, Violation, fault

MAX_NAMED = 20  # faults of a body


def decoded(body: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The fields of a body of this type. Raises Problem 400 and 422."""
    try:
        fields = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid([*_faults(_well_formed(body), kind)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from error
    json.loads(body, object_pairs_hook=_refuse_duplicates)  # msgspec takes the last of them
    return fields


def _well_formed(body: bytes) -> Any:
    try:
        value = msgspec.json.decode(body)
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
    return value


def _malformed(error: Exception) -> Problem:
    match error:
        case RecursionError():
            fault = "it is nested too deeply"
        case UnicodeDecodeError():
            fault = f"byte {error.start} is not UTF-8"
        case _:
            fault = str(error)
    return Problem(400, "malformed-json", f"The body is not well-formed JSON in UTF-8 ({fault}).")


def _invalid(faults: Sequence[tuple[str, str]]) -> Problem:
    """The problem of these fields and their rules; of many, the first and how many more."""
    named = [Violation(pointer=_pointer(name), detail=f"{name}: {rule}") for name, rule in faults[:MAX_NAMED]]
    errors = named or [Violation(pointer="#", detail="The body is a JSON object")]
    detail = "; ".join(each.detail for each in errors)
    if (more := len(faults) - MAX_NAMED) > 0:
        detail += f"; and {more} more"
    return Problem(422, "invalid", f"{detail}.", faults[0][0] if faults else "", errors=errors)


def _faults(value: Any, kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if name not in value:
            if field.required:
                yield name, f"missing; {_rule(kind, name)}"
        elif not _fits(value[name], field.type):
            yield name, _rule(kind, name)
    yield from ((name, "no field of this request") for name in value if name not in fields)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _pointer(name: str) -> str:
    return "#/" + quote(name.replace("~", "~0").replace("/", "~1"))


@cache
def _rule(kind: type[msgspec.Struct], name: str) -> str:
    """The description of a field, which OpenAPI shows, too."""
    properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return str(properties[name].get("description", "not acceptable"))


def _refuse_duplicates(members: list[tuple[str, Any]]) -> None:
    """Raises Problem 400 for a doubled name in well-formed JSON."""
    places: dict[str, int] = {}
    for place, (name, _) in enumerate(members, 1):
        if (first := places.setdefault(name, place)) != place:
            detail = f"The object has `{name}` twice: as member {first} and as member {place}."
            raise fault(400, "duplicate-member", detail, pointer=_pointer(name))
