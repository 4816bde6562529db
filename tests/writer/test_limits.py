"""A limit on the commands of one caller."""

from tests.writer.mysql import MySql
from tests.writer.people import serving


def test_who_writes_too_much_is_told_when_to_go_on(mysql: MySql) -> None:
    with serving(mysql.url, commands_per_minute=3) as writer:
        eager, other = writer.person(), writer.person()
        answers = [eager.send("POST", "/post", {"body": "again"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
        assert answers[-1].json()["type"] == "/problems/too-many-commands"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        other.post()


def test_without_a_limit_nobody_is_refused(mysql: MySql) -> None:
    with serving(mysql.url) as writer:
        person = writer.person()
        for _ in range(30):
            person.post()
