"""Many clients that ask for the same post at the same moment, each on its own connection."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


def ask_at_once(url: str, path: str, token: str, requests: int) -> None:
    """Connect `requests` times, then ask on all at once. Raises RuntimeError unless all get 200."""
    asyncio.run(_ask_at_once(url, path, token, requests))


async def _ask_at_once(url: str, path: str, token: str, requests: int) -> None:
    address = urlsplit(url)
    connections = [await asyncio.open_connection(address.hostname, address.port) for _ in range(requests)]
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    for _, writer in connections:
        writer.write(head.encode())
    answers = await asyncio.gather(*(reader.read() for reader, _ in connections))
    for _, writer in connections:
        writer.close()
    if failed := [answer for answer in answers if not answer.startswith(b"HTTP/1.1 200 ")]:
        raise RuntimeError(f"{len(failed)} of {requests} requests at once failed: {failed[0][:200]!r}")
