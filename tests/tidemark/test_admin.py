"""A service that cannot listen prints the address and the reason in one line."""

from __future__ import annotations

import asyncio
import socket

import pytest
from prometheus_client import CollectorRegistry

from tidemark.admin import AddressUnavailable, AdminThread, Readiness, admin_app, serve
from tidemark.settings import Address


async def ready() -> Readiness:
    return Readiness.of({})


APP = admin_app(CollectorRegistry(), ready)


def test_a_taken_port_is_named_before_anything_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(AddressUnavailable, match=f"cannot listen on {address}: Address already in use"):
            asyncio.run(serve([(APP, address)]))
        with pytest.raises(AddressUnavailable, match=str(address)):
            AdminThread(APP, address)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(AddressUnavailable, match=r"192\.0\.2\.1:80"):
        AdminThread(APP, Address("192.0.2.1", 80))
