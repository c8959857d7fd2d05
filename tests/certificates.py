"""A certificate authority of a test's own, and the server certificates that it signs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM, _PKCS8, _OPEN = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)


@dataclass(frozen=True)
class ServerFiles:
    """Paths of what a server with TLS is given."""

    authority: Path
    certificate: Path
    key: Path


class Authority:
    """Signs certificates for addresses; `file` is what clients are told to trust."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._name = directory, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=True, path_length=0)
        certificate = _builder(self._name, self._name, self._key).add_extension(basic, critical=True)
        itself = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.file = directory / f"{name}.pem"
        signed = certificate.add_extension(signs, critical=True).add_extension(itself, critical=False)
        self.file.write_bytes(signed.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def server(self, *addresses: str) -> ServerFiles:
        """Return the files of a server that is reached under these addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)) for address in addresses])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_name(addresses[0]), self._name, key)
        signed = builder.add_extension(names, critical=False).add_extension(issuer, critical=False)
        stem = f"server-{addresses[0]}"
        files = ServerFiles(self.file, self._directory / f"{stem}.pem", self._directory / f"{stem}.key")
        files.certificate.write_bytes(signed.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        files.key.write_bytes(key.private_bytes(_PEM, _PKCS8, _OPEN))
        return files


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
