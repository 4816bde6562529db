"""`python -m perf.reader.lanes constant|naive HOST:PORT`: the same bytes as the reader's, from other code."""

from __future__ import annotations

import os
import sys

import jwt
import redis.asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from authorizer_lambda.settings import AuthSettings

PREFIX = "tidemark:perf:naive:"  # a key of our own, beside the cache's


def constant() -> Starlette:
    """The floor: a Starlette route with a constant answer."""
    body = os.environ["PERF_BODY"].encode()

    async def answer(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/post/{id}", answer)])


def naive() -> Starlette:
    """The obvious code: a redis-py GET and a verified token for every request."""
    client = redis.asyncio.Redis.from_url(os.environ["PERF_REDIS_URL"])
    auth = AuthSettings.from_environ(os.environ)
    secret = os.environ["TIDEMARK_AUTH_SECRET"]

    async def answer(request: Request) -> Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        jwt.decode(token, secret, algorithms=["HS256"], issuer=auth.issuer, audience=auth.audience)
        body = await client.get(f"{PREFIX}{request.path_params['id']}")
        return Response(body, media_type="application/json") if body else Response(status_code=404)

    return Starlette(routes=[Route("/post/{id}", answer)])


LANES = {"constant": constant, "naive": naive}


def main(name: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    uvicorn.run(LANES[name](), host=host, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
