"""Errors as problem details (RFC 9457): the reason in words for the caller, and the field at fault."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """The body of an error answer."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""


class Problem(Exception):
    """An error answer. `name` becomes the problem type; `field` is the input at fault."""

    def __init__(
        self, status: int, name: str, detail: str, field: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, name, detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.field = field
        self.headers = headers or {}

    def __str__(self) -> str:
        return f"{self.status} {self.name}: {self.detail}"


def problem_response(problem: Problem) -> Response:
    title = problem.name.replace("-", " ").capitalize() or HTTPStatus(problem.status).phrase
    body = ProblemDocument(f"/problems/{problem.name}", title, problem.status, problem.detail, problem.field)
    return Response(msgspec.json.encode(body), problem.status, dict(problem.headers), MEDIA_TYPE)
