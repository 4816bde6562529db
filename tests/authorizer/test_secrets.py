"""Secrets and signatures are compared in constant time, everywhere in the code (CWE-208)."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import pytest

from tests.authorizer.processes import ROOT

PACKAGES = ("authorizer_lambda", "tidemark", "writer", "reader", "binlog_projector")
SECRET_WORDS = {
    "secret",
    "secrets",
    "signature",
    "signatures",
    "hmac",
    "mac",
    "digest",
    "hexdigest",
    "password",
}
SLOW = """
def is_right(signature: bytes, key: bytes) -> bool:
    return hmac.digest(key, b"", "sha256") == signature
"""


def _careless(source: str) -> list[int]:
    """The lines that compare a value named like a secret by ==, !=, `in`, startswith or endswith."""
    nodes = ast.walk(ast.parse(source))
    return sorted({operand.lineno for node in nodes for operand in _compared(node) if _is_secret(operand)})


def _compared(node: ast.AST) -> Sequence[ast.expr]:
    if isinstance(node, ast.Compare) and any(
        isinstance(each, ast.Eq | ast.NotEq | ast.In) for each in node.ops
    ):
        return (node.left, *node.comparators)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return (node.func.value,) if node.func.attr in ("startswith", "endswith") else ()
    return ()


def _is_secret(operand: ast.expr) -> bool:
    """Judged by its name, or by the name of the function that made it."""
    if isinstance(operand, ast.Call):
        return _is_secret(operand.func)
    if isinstance(operand, ast.Subscript):
        return _is_secret(operand.value)
    name = (
        operand.attr
        if isinstance(operand, ast.Attribute)
        else operand.id
        if isinstance(operand, ast.Name)
        else ""
    )
    return not name.isupper() and bool(SECRET_WORDS & set(name.lower().split("_")))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_secret_is_compared_character_by_character(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    found = [f"{path.relative_to(ROOT)}:{line}" for path in modules for line in _careless(path.read_text())]
    assert found == []


def test_a_careless_comparison_would_be_found() -> None:
    assert _careless(SLOW) == [3]
    assert _careless("x = expected_mac in (given, other)") == [1]
    assert _careless("x = self._signature[:8] != given") == [1]
    assert _careless("x = hmac.compare_digest(signature, given)") == []
