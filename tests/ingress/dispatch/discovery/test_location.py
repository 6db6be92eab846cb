import pytest

from services.ingress.dispatch.discovery.location import DnsName, KubernetesService, parse


def test_a_list_is_the_addresses_themselves():
    assert parse(["encoder-0:50052", "[::1]:50052"]) == ["encoder-0:50052", "[::1]:50052"]


def test_a_dns_uri_is_a_name_and_a_port():
    assert parse("dns://encoder.videos.svc:50052") == DnsName("encoder.videos.svc", 50052)


def test_a_kubernetes_uri_is_a_service_and_a_port_by_name_or_number():
    assert parse("kubernetes://videos/encoder:grpc") == KubernetesService("videos", "encoder", "grpc")
    assert parse("kubernetes://videos/encoder:50052") == KubernetesService("videos", "encoder", 50052)
    assert parse("kubernetes:///encoder:grpc") == KubernetesService(None, "encoder", "grpc")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "names no address"),
        (["encoder:1", "encoder"], "item 1"),
        (["http://encoder:1"], "item 0"),
        (["encoder:70000"], "item 0"),
        ([7], "item 0"),
        ("encoder:50052", "JSON list of addresses"),
        ("http://encoder:50052", "JSON list of addresses"),
        (7, "JSON list of addresses"),
        ("dns://encoder", "a name and a port"),
        ("dns://encoder:0", "a name and a port"),
        ("dns:///encoder:50052", "a name and a port"),
        ("dns://encoder:50052/more", "a name and a port"),
        ("kubernetes://videos/encoder", "a namespace, a service and a port"),
        ("kubernetes://encoder:grpc", "a namespace, a service and a port"),
        ("kubernetes://videos/encoder:0", "a namespace, a service and a port"),
        ("kubernetes://videos/encoder:99999", "a namespace, a service and a port"),
        ("kubernetes://Videos/encoder:grpc", "a namespace, a service and a port"),
        ("kubernetes://videos/encoder/more:grpc", "a namespace, a service and a port"),
    ],
)
def test_anything_else_is_refused_with_what_would_do(wrong, message):
    with pytest.raises(ValueError, match=message):
        parse(wrong)
