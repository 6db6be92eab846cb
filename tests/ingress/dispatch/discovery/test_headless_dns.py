import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.ingress.dispatch.discovery.headless_dns import HeadlessDns, resolve
from services.ingress.dispatch.discovery.location import DnsName


class Resolver:
    """Gives one answer after another, the last one for ever; counts the queries."""

    def __init__(self, *answers: set[str] | OSError) -> None:
        self._answers = list(answers)
        self.queries = 0

    async def __call__(self, host: str) -> set[str]:
        assert host == "encoder.videos.svc"
        self.queries += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


def watch(resolver: Resolver, keep_seconds: float = 60) -> AsyncGenerator[frozenset[str]]:
    name = DnsName("encoder.videos.svc", 50052)
    return HeadlessDns(name, 0.001, resolve=resolver, keep_seconds=keep_seconds).watch()


async def changes(resolver: Resolver, count: int, **options: float) -> list[set[str]]:
    async with asyncio.timeout(5), aclosing(watch(resolver, **options)) as watching:
        return [set(await anext(watching)) for _ in range(count)]


async def test_tells_of_addresses_that_come_and_go_and_not_of_those_that_stay():
    resolver = Resolver({"10.0.0.1"}, {"10.0.0.1"}, {"10.0.0.1", "10.0.0.2"}, {"10.0.0.2"})
    expected = [{"10.0.0.1:50052"}, {"10.0.0.1:50052", "10.0.0.2:50052"}, {"10.0.0.2:50052"}]
    assert await changes(resolver, 3) == expected


async def test_an_ipv6_address_stands_in_brackets():
    assert await changes(Resolver({"fd00::1"}), 1) == [{"[fd00::1]:50052"}]


async def test_without_an_answer_the_last_addresses_are_kept_and_that_is_logged_once(capfd):
    silence = socket.gaierror(socket.EAI_AGAIN, "no answer")
    resolver = Resolver({"10.0.0.1"}, *[silence] * 20, {"10.0.0.2"})
    assert await changes(resolver, 2, keep_seconds=0) == [{"10.0.0.1:50052"}, {"10.0.0.2:50052"}]
    logged = capfd.readouterr().out
    assert logged.count("discovery fails") == logged.count("discovery works again") == 1


async def test_a_name_without_addresses_empties_the_set_only_after_a_while():
    assert await changes(Resolver({"10.0.0.1"}, set(), {"10.0.0.2"}), 2) == [{"10.0.0.1:50052"}, {"10.0.0.2:50052"}]
    emptied = Resolver({"10.0.0.1"}, set())
    assert await changes(emptied, 2, keep_seconds=0.05) == [{"10.0.0.1:50052"}, set()]
    assert emptied.queries > 2


async def test_the_systems_resolver_tells_no_addresses_from_no_answer():
    assert await resolve("127.0.0.1") == {"127.0.0.1"}
    assert await resolve("::1") == {"::1"}
    assert await resolve("not.a.name.invalid.") == set()
