"""A throw-away certificate authority, for a stack on one machine and for tests."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from videoanalysis.atomic_write import write_atomically
from videoanalysis.tls import TlsFiles

_VALID = datetime.timedelta(days=30)
_CLOCK_SKEW = datetime.timedelta(minutes=5)


class CertificateAuthority:
    """Writes its own certificate, and those it issues with their keys, as PEM files into `directory`."""

    def __init__(self, directory: Path, name: str = "videoanalysis") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"{name} test CA")
        self.ca = directory / f"{name}-ca.crt"
        write_atomically(self.ca, _pem(self._sign(self._name, self._key, None)))

    def issue(self, name: str, hosts: Sequence[str] = ()) -> TlsFiles:
        """A certificate for a server or a client: for `name`, and for `hosts`, which may be addresses.

        Replaces one of the same name.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_named(name), key, [_host(host) for host in (name, *hosts)])
        files = TlsFiles(self._directory / f"{name}.crt", self._directory / f"{name}.key", self.ca)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for path, content in ((files.key, private), (files.cert, _pem(certificate))):
            assert path is not None
            write_atomically(path, content)
        return files

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: Sequence[x509.GeneralName] | None
    ) -> x509.Certificate:
        """Without `hosts`, the certificate of the authority itself."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + _VALID)
            .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
        )
        if hosts is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
