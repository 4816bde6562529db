"""The release before notifications, as far as projectors and readers work from declarations.

`python -m tests.support.older_release binlog_projector run`: two tables, two columns, the lists and fields
made of them are not declared, and the read-model version is the one before.
"""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace

from reader.read_model import declarations
from reader.read_model.notifications import OfNotifications
from writer import schema

LATER_TABLES, LATER_COLUMN, LATER_FIELD = ("mentions", "notification_reads"), "post_author_id", "told"


def forget_notifications() -> None:
    """Call it before any module that reads the declarations is imported."""
    for name in LATER_TABLES:
        del schema.TABLES[name]
    for name, table in schema.TABLES.items():
        columns = tuple(column for column in table.columns if column != LATER_COLUMN)
        schema.TABLES[name] = replace(table, columns=columns)
    kept = tuple(one for one in declarations.LISTS if not isinstance(one, OfNotifications))
    for changed, value in {
        "LISTS": kept,
        "MODEL_VERSION": declarations.MODEL_VERSION - 1,
    }.items():
        setattr(declarations, changed, value)
    for name in [*declarations.COLLECTIONS]:
        del declarations.COLLECTIONS[name]
    declarations.COLLECTIONS.update({name: declarations._collection(name) for name in schema.TABLES})
    setattr(schema, "own_alterations", frozenset)  # noqa: B010 - mypy refuses an assignment
    from binlog_projector.domain import made

    setattr(made, "MADE", {name: of for name, of in made.MADE.items() if LATER_FIELD not in of})  # noqa: B010


if __name__ == "__main__":
    forget_notifications()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__")
