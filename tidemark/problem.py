"""Errors as problem details (RFC 9457): the reason in words for the caller, and the fields at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Violation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule that an input breaks, and one of three places.

    `pointer`: into the body, a JSON pointer as a URI fragment (RFC 6901, 6). `parameter`: its name in the
    query or the path. `header`: its name.
    """

    pointer: str = ""
    parameter: str = ""
    header: str = ""
    detail: str


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """The body of an error answer."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""
    errors: list[Violation] = []


class Problem(Exception):
    """An error answer. `name` is one of tidemark.problems; `field` is the input at fault."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        field: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Violation] = (),
    ) -> None:
        super().__init__(status, name, detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.field = field
        self.headers = headers or {}
        self.errors = errors

    def __str__(self) -> str:
        return f"{self.status} {self.name}: {self.detail}"


def fault(
    status: int, name: str, detail: str, *, pointer: str = "", parameter: str = "", header: str = ""
) -> Problem:
    """The problem of one input, in one of the places of Violation."""
    where = Violation(pointer=pointer, parameter=parameter, header=header, detail=detail)
    return Problem(status, name, detail, parameter or header or pointer.removeprefix("#/"), errors=[where])


def together(problems: Sequence[Problem]) -> Problem:
    """All faults in one answer, of the type of the first."""
    first, *_ = problems
    detail = " ".join(each.detail for each in problems)
    errors = [one for each in problems for one in each.errors]
    return Problem(first.status, first.name, detail, first.field, errors=errors)


def title_of(name: str) -> str:
    return name.replace("-", " ").capitalize()


def problem_response(problem: Problem) -> Response:
    body = ProblemDocument(
        f"/problems/{problem.name}",
        title_of(problem.name),
        problem.status,
        problem.detail,
        problem.field,
        [*problem.errors],
    )
    return Response(msgspec.json.encode(body), problem.status, dict(problem.headers), MEDIA_TYPE)
