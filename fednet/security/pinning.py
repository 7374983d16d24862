"""Which coordinator a hospital talks to, by the fingerprints it has agreed to: beside TLS, whatever a token says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from fednet.errors import CredentialError
from fednet.security.authority import is_issued_by
from fednet.security.identity import load_certificate
from fednet.security.rotation import may_sign
from fednet.security.signing import fingerprint_of

_TODO = "if this is the coordinator that is meant, let who answers for worker.toml compare and change the fingerprint"


@dataclass(frozen=True)
class Pins:
    """SHA-256 fingerprints, hex; an empty set allows any."""

    authorities: frozenset[str] = frozenset()
    coordinators: frozenset[str] = frozenset()

    def require(
        self,
        certificate_der: bytes | None,
        authorities: Sequence[x509.Certificate],
        *,
        before: Sequence[x509.Certificate] = (),
    ) -> None:
        """Raise `CredentialError` unless the coordinator behind a verified TLS connection is one that was agreed to.

        `certificate_der`: what it showed; `authorities`: those that TLS verified it against; `before`: those of
        earlier, and what they have signed for the next ones. The next one of an authority that is named, which that has
        signed, is agreed to with it: whoever has its key could sign a coordinator's certificate as well.
        """
        if not self.authorities and not self.coordinators:
            return
        if certificate_der is None:
            raise CredentialError("coordinator", found="no certificate", expected="one that worker.toml names")
        shown = load_certificate(certificate_der)
        if self.coordinators and fingerprint_of(shown) not in self.coordinators:
            raise CredentialError(
                "coordinator's certificate",
                found=f"SHA-256 {fingerprint_of(shown)}",
                expected="one that worker.toml names ([coordinator] certificate)",
                todo=_TODO,
            )
        issuers = {fingerprint_of(each) for each in authorities if is_issued_by(shown, each)}
        agreed = self._agreed_to([*authorities, *before])
        if self.authorities and not any(is_issued_by(shown, each) for each in agreed):
            raise CredentialError(
                "coordinator's authority",
                found=f"SHA-256 {', '.join(sorted(issuers)) or 'of none that is known here'}",
                expected="one that worker.toml names ([coordinator] authority)",
                todo=_TODO,
            )

    def _agreed_to(self, known: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """Return the authorities that are named, and those for which one of them has signed, one after another."""
        agreed = [each for each in known if fingerprint_of(each) in self.authorities]
        for _ in known:
            agreed += [
                each
                for each in known
                if each not in agreed and may_sign(each) and any(is_issued_by(each, one) for one in agreed)
            ]
        return agreed
