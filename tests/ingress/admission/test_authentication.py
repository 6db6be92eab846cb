"""Who may call, through a real server: tokens, JWT, the gateway's header, the policy, and what is logged of it."""

import asyncio
import hmac
import json
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from services.ingress.admission import (
    Authentication,
    FileKeys,
    IssuerKeys,
    RemoteKeys,
    WebTokens,
    current_caller,
    read_policy,
    read_tokens,
)
from tests.sleeper import SERVICE, SleeperSettings
from videoanalysis.channels import connect
from videoanalysis.errors import InvalidInput, PermissionDenied, ServiceError, Unauthenticated, Unavailable
from videoanalysis.reloaded_files import ReloadedFiles
from videoanalysis.server import Server
from videoanalysis.stack.certificates import CertificateAuthority
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.error_reason_pb2 import ErrorReason

Metadata = Sequence[tuple[str, str]]
ISSUER, AUDIENCE = "https://issuer.example.com", "videoanalysis"


@asynccontextmanager
async def door(authentication: Authentication) -> AsyncIterator[grpc.aio.Channel]:
    """A server behind `authentication`, whose method Who answers with the caller."""
    server = Server(SleeperSettings(), [SERVICE], guard=authentication.guard)

    async def who(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        caller = current_caller()
        return json.dumps([caller.identity, caller.queue]).encode()

    methods = {"Who": grpc.unary_unary_rpc_method_handler(who)}
    server.grpc.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    async with server, connect(f"127.0.0.1:{server.port}") as channel:
        yield channel


async def who(channel: grpc.aio.Channel, metadata: Metadata = ()) -> list[str]:
    """Identity and queue of the caller; raises ServiceError."""
    try:
        answer = await channel.unary_unary(f"/{SERVICE}/Who")(b"", metadata=tuple(metadata), timeout=20)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return list(json.loads(answer))


def bearer(token: str) -> Metadata:
    return [("authorization", f"Bearer {token}")]


async def refusal(channel: grpc.aio.Channel, metadata: Metadata = ()) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await who(channel, metadata)
    return caught.value


# Static tokens


def token_line(caller: str, token: str) -> str:
    return f"{caller} sha256:{sha256(token.encode()).hexdigest()}\n"


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("# of this test\n\n" + token_line("alice", "secret-a") + token_line("bob", "secret-b"))
    return path


def by_token(path: Path, **others: Any) -> Authentication:
    return Authentication(tokens=ReloadedFiles("TOKENS", [path], lambda: read_tokens(path)), **others)


async def test_a_token_names_its_caller(tokens_file):
    async with door(by_token(tokens_file)) as channel:
        assert await who(channel, bearer("secret-a")) == ["alice", "alice"]
        assert await who(channel, [("authorization", "bearer secret-b")]) == ["bob", "bob"]


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        bearer("secret"),
        bearer(""),
        bearer("secret-a secret-b"),
        bearer("a.b.c"),
        [("authorization", "Basic secret-a")],
        [("authorization", "secret-a")],
        [("x-caller-id", "alice")],
    ],
)
async def test_a_call_without_a_known_token_is_unauthenticated(tokens_file, metadata):
    async with door(by_token(tokens_file)) as channel:
        error = await refusal(channel, metadata)
        assert isinstance(error, Unauthenticated)
        assert error.reason == ErrorReason.UNAUTHENTICATED
        assert "secret" not in error.message


async def test_two_tokens_are_refused(tokens_file):
    async with door(by_token(tokens_file)) as channel:
        assert isinstance(await refusal(channel, [*bearer("secret-a"), *bearer("secret-b")]), InvalidInput)


async def test_health_is_open_and_reflection_needs_a_token(tokens_file):
    async with door(by_token(tokens_file)) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING

        async def reflected(metadata: Metadata) -> int:
            requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            answers = stub.ServerReflectionInfo(iter(requests), metadata=tuple(metadata), timeout=20)
            return len([answer async for answer in answers])

        assert await reflected(bearer("secret-a")) == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflected([])
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_tokens_are_read_again_and_an_invalid_file_changes_nothing(tokens_file, capsys):
    async with door(by_token(tokens_file)) as channel:
        assert isinstance(await refusal(channel, bearer("secret-c")), Unauthenticated)
        tokens_file.write_text(token_line("carol", "secret-c"))
        assert await who(channel, bearer("secret-c")) == ["carol", "carol"]
        assert isinstance(await refusal(channel, bearer("secret-a")), Unauthenticated)
        tokens_file.write_text("carol secret-c in plain text\n")
        assert await who(channel, bearer("secret-c")) == ["carol", "carol"]
        logged = capsys.readouterr().out
        assert "line 1 is not of the form" in logged
        assert "secret-c" not in logged


def test_a_token_given_to_two_callers_is_an_error(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(token_line("alice", "same") + token_line("bob", "same"))
    with pytest.raises(ValueError, match="line 2 repeats"):
        read_tokens(path)


# JSON Web Tokens


RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})


def key_set(*keys: Any) -> bytes:
    return json.dumps(KeySet(list(keys)).as_dict(private=False)).encode()


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    """A valid token of alice but for `changes`; None removes a claim."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 300, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    header = {"alg": algorithm, **({"kid": kid} if kid else {})}
    return jwt.encode(header, claims, key, algorithms=[algorithm])


def unsigned() -> str:
    header = urlsafe_b64encode(b'{"alg":"none","kid":"rsa"}').decode().rstrip("=")
    return f"{header}.{token().split('.')[1]}."


def confused() -> str:
    """Signed with the public key as a secret, which a verifier accepts that lets the token choose the algorithm."""
    header = urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').decode().rstrip("=")
    signed = f"{header}.{token().split('.')[1]}"
    signature = hmac.digest(RSA.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{urlsafe_b64encode(signature).decode().rstrip('=')}"


def tampered() -> str:
    header, _, signature = token().split(".")
    return ".".join([header, token(sub="bob").split(".")[1], signature])


def by_jwt(keys: IssuerKeys, **settings: Any) -> Authentication:
    chosen = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256", "ES256"], **settings}
    return Authentication(web_tokens=WebTokens(keys, **chosen))


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(RSA, EC))
    return path


async def test_a_valid_token_names_its_caller(keys_file):
    async with door(by_jwt(FileKeys("KEYS", keys_file))) as channel:
        valid = [
            token(),
            token(EC, "ES256", "ec"),
            token(aud=["others", AUDIENCE]),
            token(exp=int(time.time()) - 10),  # within the clock skew
        ]
        for one in valid:
            assert await who(channel, bearer(one)) == ["alice", "alice"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: token(exp=int(time.time()) - 40), "expired"),
        (lambda: token(nbf=int(time.time()) + 300), "'nbf'"),
        (lambda: token(aud="another"), "'aud'"),
        (lambda: token(aud=None), "'aud'"),
        (lambda: token(iss="https://evil.example.com"), "'iss'"),
        (lambda: token(iss=None), "'iss'"),
        (lambda: token(exp=None), "'exp'"),
        (lambda: token(exp="tomorrow"), "'exp'"),
        (lambda: token(sub=None), "'sub'"),
        (lambda: token(sub=""), "'sub'"),
        (lambda: token(sub="a" * 201), "'sub'"),
        (lambda: token(sub="a\nb"), "'sub'"),
        (lambda: token(algorithm="RS512"), "not accepted"),
        (confused, "not accepted"),
        (lambda: token(EC, "ES256", "rsa"), "not "),
        (lambda: token(kid="unknown"), "does not publish"),
        (lambda: token(kid=None), "does not publish"),
        (lambda: token(STRANGER), "signature"),
        (unsigned, "not accepted"),
        (tampered, "signature"),
        (lambda: "a.b.c", "malformed"),
        (lambda: "..", "malformed"),
    ],
)
async def test_a_token_that_is_not_valid_is_unauthenticated_with_the_reason(keys_file, make, says):
    async with door(by_jwt(FileKeys("KEYS", keys_file))) as channel:
        error = await refusal(channel, bearer(make()))
        assert isinstance(error, Unauthenticated), error
        assert says in error.message


async def test_a_secret_key_in_the_set_is_no_key(tmp_path):
    path = tmp_path / "keys.json"
    secret = OctKey.generate_key(256, {"kid": "oct"})
    listed = json.loads(key_set(RSA))["keys"] + [secret.as_dict(private=True)]
    path.write_text(json.dumps({"keys": listed}))
    # Even if an operator allowed such an algorithm, which the settings do not.
    async with door(by_jwt(FileKeys("KEYS", path), algorithms=["HS256", "RS256"])) as channel:
        assert isinstance(await refusal(channel, bearer(token(secret, "HS256", "oct"))), Unauthenticated)
        assert await who(channel, bearer(token())) == ["alice", "alice"]


async def test_keys_in_a_file_are_rotated(keys_file):
    async with door(by_jwt(FileKeys("KEYS", keys_file))) as channel:
        keys_file.write_bytes(key_set(EC))
        assert isinstance(await refusal(channel, bearer(token())), Unauthenticated)
        assert await who(channel, bearer(token(EC, "ES256", "ec"))) == ["alice", "alice"]
        keys_file.write_text("{}")
        assert await who(channel, bearer(token(EC, "ES256", "ec"))) == ["alice", "alice"]


class Issuer:
    """An https server of keys; counts the requests."""

    def __init__(self) -> None:
        self.content = key_set(RSA)
        self.requests = 0
        self.url = ""

    async def keys(self, request: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(body=self.content)


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[tuple[Issuer, ssl.SSLContext]]:
    authority = CertificateAuthority(tmp_path)
    files = authority.issue("issuer", ["127.0.0.1"])
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(files.cert, files.key)
    issuer, application = Issuer(), web.Application()
    application.router.add_get("/keys", issuer.keys)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own)
    await site.start()
    issuer.url = f"https://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield issuer, ssl.create_default_context(cafile=authority.ca)
    await runner.cleanup()


async def test_keys_at_a_url_are_fetched_once_and_again_for_an_unknown_key_but_not_at_any_rate(issuer):
    served, tls = issuer
    now = 0.0
    async with RemoteKeys(served.url, tls, lambda: now) as keys, door(by_jwt(keys)) as channel:
        for _ in range(3):
            assert await who(channel, bearer(token())) == ["alice", "alice"]
        assert served.requests == 1
        served.content = key_set(EC)
        now = 11.0
        assert await who(channel, bearer(token(EC, "ES256", "ec"))) == ["alice", "alice"]
        assert served.requests == 2
        refusals = await asyncio.gather(*(refusal(channel, bearer(token(kid=f"no-{n}"))) for n in range(20)))
        assert all(isinstance(error, Unauthenticated) for error in refusals)
        assert served.requests == 2


async def test_known_keys_stay_where_new_ones_cannot_be_fetched(issuer):
    served, tls = issuer
    now = 0.0
    async with RemoteKeys(served.url, tls, lambda: now) as keys, door(by_jwt(keys)) as channel:
        for content in (b"no keys", b" " * 300_000 + key_set(EC), json.dumps({"keys": []}).encode()):
            served.content = content
            now += 11
            assert isinstance(await refusal(channel, bearer(token(EC, "ES256", "ec"))), Unauthenticated)
            assert await who(channel, bearer(token())) == ["alice", "alice"]


async def test_without_any_keys_yet_calls_may_be_repeated(issuer):
    served, tls = issuer
    served.content = b""
    now = 0.0
    async with RemoteKeys(served.url, tls, lambda: now) as keys, door(by_jwt(keys)) as channel:
        error = await refusal(channel, bearer(token()))
        assert (type(error), error.reason) == (Unavailable, ErrorReason.KEYS_UNAVAILABLE)
        served.content = key_set(RSA)
        now = 11.0
        assert await who(channel, bearer(token())) == ["alice", "alice"]


# The header of a gateway


async def test_a_header_names_no_caller_by_default():
    async with door(Authentication()) as channel:
        assert await who(channel, [("x-caller-id", "alice")]) == ["", "127.0.0.1"]


async def test_a_header_names_the_caller_if_the_operator_sets_it():
    async with door(Authentication(caller_header="x-caller-id")) as channel:
        assert await who(channel, [("x-caller-id", "alice")]) == ["alice", "alice"]
        assert await who(channel) == ["", "127.0.0.1"]
        for named in ([("x-caller-id", "alice"), ("x-caller-id", "bob")], [("x-caller-id", "a" * 201)]):
            error = await refusal(channel, named)
            assert isinstance(error, InvalidInput)
            assert "x-caller-id" in error.message


async def test_with_tokens_a_header_is_accepted_only_from_a_gateway(tokens_file, policy_file):
    policy_file.write_text("default: {}\ncallers: {alice: {gateway: true}}")
    doorway = by_token(tokens_file, caller_header="x-caller-id", policy=policy(policy_file))
    async with door(doorway) as channel:
        named = [("x-caller-id", "carol")]
        assert await who(channel, [*bearer("secret-a"), *named]) == ["carol", "carol"]
        assert await who(channel, bearer("secret-a")) == ["alice", "alice"]
        assert await who(channel, [*bearer("secret-b"), *named]) == ["bob", "bob"]
        assert isinstance(await refusal(channel, named), Unauthenticated)


# The policy


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("callers: {alice: {}}")
    return path


def policy(path: Path) -> Any:
    return ReloadedFiles("POLICY", [path], lambda: read_policy(path))


async def test_callers_without_permissions_are_denied_and_a_changed_policy_applies_to_the_next_call(
    tokens_file, policy_file, capsys
):
    async with door(by_token(tokens_file, policy=policy(policy_file))) as channel:
        assert await who(channel, bearer("secret-a")) == ["alice", "alice"]
        error = await refusal(channel, bearer("secret-b"))
        assert (type(error), error.reason) == (PermissionDenied, ErrorReason.CALLER_NOT_ALLOWED)
        policy_file.write_text("callers: {bob: {}}")
        assert await who(channel, bearer("secret-b")) == ["bob", "bob"]
        assert isinstance(await refusal(channel, bearer("secret-a")), PermissionDenied)
        policy_file.write_text("callers: {alice: {max_video: 1}}")
        assert await who(channel, bearer("secret-b")) == ["bob", "bob"]
        assert "callers.alice.max_video" in capsys.readouterr().out


# The audit log


async def test_every_decision_is_logged_with_the_caller_and_never_with_the_token(tokens_file, policy_file, capsys):
    async with door(by_token(tokens_file, policy=policy(policy_file))) as channel:
        capsys.readouterr()
        await who(channel, bearer("secret-a"))
        await refusal(channel, bearer("secret-b"))
        await refusal(channel, bearer("secret-x"))
        await refusal(channel, [*bearer("secret-a"), *bearer("secret-a")])
    lines = [line for line in capsys.readouterr().out.splitlines() if " audit " in line]
    decisions = [("alice", "allowed"), ("bob", "CALLER_NOT_ALLOWED"), ("", "UNAUTHENTICATED"), ("", "INVALID_INPUT")]
    assert len(lines) == len(decisions)
    for line, (caller, decision) in zip(lines, decisions, strict=True):
        assert f"caller={caller} " in line
        assert f"decision={decision} " in line
        assert f"method=/{SERVICE}/Who" in line
        assert "peer=127.0.0.1" in line
        assert "secret" not in line
