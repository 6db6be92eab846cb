import json

import pytest
from pydantic import ValidationError

from services.ingress.dispatch.discovery.location import DnsName, KubernetesService
from services.ingress.settings import IngressSettings

REPLICAS = {"encoders": ["encoder:1"], "decoders": ["decoder:1"]}


def test_needs_only_to_know_its_encoders_and_decoders(monkeypatch):
    monkeypatch.setenv("INGRESS_ENCODERS", '["encoder-0:50052", "encoder-1:50052"]')
    monkeypatch.setenv("INGRESS_DECODERS", '["decoder:50053"]')
    settings = IngressSettings()
    assert settings.encoders == ["encoder-0:50052", "encoder-1:50052"]
    assert (settings.port, settings.max_videos, settings.image_size) == (50051, 4, 384)


def test_encoders_and_decoders_may_be_found_by_name(monkeypatch):
    monkeypatch.setenv("INGRESS_ENCODERS", "kubernetes://videos/encoder:grpc")
    monkeypatch.setenv("INGRESS_DECODERS", "dns://decoder.videos.svc:50053")
    settings = IngressSettings()
    assert settings.encoders == KubernetesService("videos", "encoder", "grpc")
    assert settings.decoders == DnsName("decoder.videos.svc", 50053)


def test_keys_are_read_in_order_and_never_shown(monkeypatch):
    first, second = "first" * 8, "second" * 8
    monkeypatch.setenv("INGRESS_RESUME_KEYS", json.dumps([first, second]))
    settings = IngressSettings(**REPLICAS)
    assert settings.resume_key_bytes() == [first.encode(), second.encode()]
    assert first not in repr(settings)
    assert IngressSettings(**REPLICAS, resume_keys=[]).resume_key_bytes() == []


def test_lets_callers_name_nothing_by_default():
    settings = IngressSettings(**REPLICAS)
    assert settings.allowed_buckets == []
    assert settings.allowed_file_roots == []
    assert settings.allowed_https_prefixes == []
    assert settings.allowed_output_prefixes == []


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"encoders": []}, "encoders"),
        ({"decoders": "dns://decoder"}, "decoders"),
        ({"image_size": 2000}, "image_size"),
        ({"frame_budget_bytes": 1000}, "frame_budget_bytes"),
        ({"scratch_bytes": 1000}, "scratch_bytes"),
        ({"max_videos": 0}, "max_videos"),
        ({"caller_header": "X-Caller"}, "caller_header"),
        ({"resume_keys": ["k" * 32, "k" * 31]}, "resume_keys"),
        ({"jwt_keys": "keys.json", "jwt_issuer": "i"}, "jwt_audience"),
        ({"jwt_keys": "keys.json", "jwt_audience": "a"}, "jwt_issuer"),
        ({"jwt_keys": "http://issuer/keys", "jwt_issuer": "i", "jwt_audience": "a"}, "jwt_keys"),
        ({"jwt_algorithms": ["HS256"]}, "jwt_algorithms"),
        ({"jwt_algorithms": ["none"]}, "jwt_algorithms"),
        ({"jwt_algorithms": []}, "jwt_algorithms"),
        ({"policy_file": "policy.yaml"}, "policy_file"),
        ({"scaling_tls": True}, "scaling_tls"),
        ({"upstream_tls_cert": "c", "upstream_tls_key": "k"}, "upstream_tls_ca"),
        ({"upstream_tls_ca": "ca", "upstream_tls_key": "k"}, "upstream_tls_cert"),
    ],
)
def test_names_the_setting_that_cannot_be(wrong, name):
    with pytest.raises(ValidationError, match=name):
        IngressSettings(**(REPLICAS | wrong))


@pytest.mark.parametrize(
    ("given", "slots"),
    [
        ({}, 4),
        ({"tokens_file": "tokens"}, 3),
        ({"caller_header": "x-caller-id"}, 3),
        ({"tokens_file": "tokens", "max_videos": 1}, 1),
        ({"tokens_file": "tokens", "max_videos_per_caller": 4}, 4),
        ({"max_videos_per_caller": 2}, 2),
    ],
)
def test_a_named_caller_leaves_a_slot_to_others_by_default(given, slots):
    assert IngressSettings(**REPLICAS, **given).slots_per_caller() == slots


def test_the_frame_budget_holds_the_largest_chunk_of_the_image_size():
    IngressSettings(**REPLICAS, image_size=384, frame_budget_bytes=64 * 384 * 384 * 3)
    with pytest.raises(ValidationError):
        IngressSettings(**REPLICAS, image_size=512, frame_budget_bytes=64 * 384 * 384 * 3)
