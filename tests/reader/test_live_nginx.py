"""Streams and WebSockets through the nginx of docker/nginx: each event at once, and the same refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.docker.nginx import running_nginx
from tests.docker.test_nginx import places, running_authorizer
from tests.reader.conftest import RunningReader
from tests.reader.test_live_websocket import hear, open_socket, say
from tests.reader.world import World
from tests.support.streams import watching
from tests.support.tokens import bearer, token

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture
def gateway(running_reader: RunningReader, tmp_path: Path) -> Iterator[str]:
    reader = int(running_reader.url.rpartition(":")[2])
    with running_authorizer() as (authorizer, _):
        outside = places(reader_1=reader, reader_2=reader, authorizer=authorizer)
        with running_nginx(tmp_path, outside) as it:
            yield it.url


def like(world: World, seq: int) -> None:
    world.post(5, like_count=seq, v=seq)
    world.apply(world.commit(seq), counted=["post:5"])


def test_nginx_passes_each_event_on_at_once(gateway: str, world: World) -> None:
    world.user(1)
    world.post(5)
    with watching(gateway, "/post/5", bearer("subject-1", "read")) as stream:
        first = stream.next("state")
        like(world, 2)
        assert stream.state(seconds=1)["body"]["like_count"] == 2
    with watching(gateway, "/post/5", bearer("subject-1", "read") | {"Last-Event-ID": first.id}) as stream:
        assert stream.next("state", "tide").name == "state"
    secret = token("subject-1", "read")  # it would be found in nginx's log
    with watching(gateway, f"/post/5?access_token={secret}", {}) as stream:
        assert stream.status == 401
    with pytest.raises(InvalidStatus) as refusal:
        open_socket(gateway, of=secret, query=f"?access_token={secret}")
    assert refusal.value.response.status_code == 400
    with open_socket(gateway, of=token("subject-1", "read")) as socket:
        say(socket, watch="/post/5")
        hear(socket, "status")
        like(world, 3)
        assert hear(socket, "status", seconds=1)["body"]["like_count"] == 3
    with pytest.raises(InvalidStatus) as refusal:
        open_socket(gateway, of="x.y.z")
    assert refusal.value.response.status_code == 401
