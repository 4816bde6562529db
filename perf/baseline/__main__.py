"""`python -m perf.baseline LANE HOST:PORT`: one of ALL_LANES, until SIGTERM or SIGINT."""

from __future__ import annotations

import os
import sys

import uvloop

from authorizer_lambda.settings import AuthSettings
from perf.baseline.app import Stores, create_app
from perf.baseline.lanes import ALL_LANES
from tidemark import logs
from tidemark.admin import serve
from tidemark.settings import address


def main(lane: str, where: str) -> None:
    """Stores: PERF_MYSQL_URL and PERF_REDIS_URL. Token checks: the settings of the services."""
    logs.configure("baseline")
    stores = Stores(os.environ["PERF_MYSQL_URL"], os.environ["PERF_REDIS_URL"])
    app = create_app(ALL_LANES[lane], stores, AuthSettings.from_environ(os.environ))
    uvloop.run(serve([(app, address(where))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
