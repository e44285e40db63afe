# SPDX-License-Identifier: Apache-2.0
"""Certificates of every shape, good and bad, and the TLSA records for them."""
import datetime
import hashlib
import itertools

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)


def digest(data, matching):
    if matching == 0:
        return data
    return (hashlib.sha256 if matching == 1 else hashlib.sha512)(data).digest()


class Certificate:
    """A key and its certificate. `by`: who signs, None: itself. `names`: DNS
    names of the leaf, None: no such extension; `ca`: may it sign."""

    _serial = itertools.count(1000)

    def __init__(self, subject, by=None, names=None, ca=False, pathlen=None,
                 expired=False, usage=ExtendedKeyUsageOID.SERVER_AUTH):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        issuer = by or self
        ends = NOW - DAY if expired else NOW + 30 * DAY
        builder = (x509.CertificateBuilder().subject_name(self.name)
                   .issuer_name(issuer.name).public_key(self.key.public_key())
                   .serial_number(next(self._serial))
                   .not_valid_before(NOW - 10 * DAY).not_valid_after(ends)
                   .add_extension(x509.BasicConstraints(ca, pathlen), critical=True))
        if names is not None:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def tlsa(self, usage, selector, matching):
        """As in a zone file."""
        if selector == 0:
            data = self.certificate.public_bytes(serialization.Encoding.DER)
        else:
            data = self.key.public_key().public_bytes(
                serialization.Encoding.DER,
                serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"{usage} {selector} {matching} {digest(data, matching).hex()}"


class Shown:
    """What a receiver shows: a leaf, then `chain` in the order given. Takes the
    place of an authority for `receivers`."""

    def __init__(self, directory, leaf, *chain):
        stem = directory / f"shown{leaf.certificate.serial_number}-{len(chain)}"
        self.files = stem.with_suffix(".pem"), stem.with_suffix(".key")
        self.files[0].write_bytes(b"".join(c.pem() for c in (leaf, *chain)))
        self.files[1].write_bytes(leaf.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))

    def issue(self, *_names):
        return self.files
