from pathlib import Path

import pytest

from data.classes import CLASSES
from fednet.config import WorkerName
from fednet.security.authority import hosts_of, read_certificate
from fednet.security.revocation import RevocationLedger
from fednet.security.rotation import authorities_in
from fednet.security.signing import fingerprint_of
from fednet.security.trusted import trusted_in
from tests.commands.running import run
from tests.security.certs import DAY, NOW, authority_in, enrolled
from tests.security.site_authority import issue, make_authority, needs_openssl
from tests.security.test_rotation import renew, show


def test_the_coordinators_certificate_is_renewed_for_the_hosts_it_has_and_further_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority_in(tmp_path).ensure_coordinator(["centre.example"], now=NOW)
    path = tmp_path / "coordinator" / "cert.pem"
    before = read_certificate(path)
    ran = run(capsys, "certs", "renew", "coordinator", "--certs", tmp_path, "--public-host", "10.0.0.5")
    assert ran.code == 0 and "is good until" in ran.out
    assert read_certificate(path) != before
    assert f'needs "{fingerprint_of(read_certificate(path))}" now' in ran.out
    assert {"centre.example", "10.0.0.5", "localhost"} <= set(hosts_of(read_certificate(path)))


def test_a_hospital_without_a_certificate_that_is_good_is_told_to_get_a_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run(capsys, "certs", "renew", "client1", "--certs", tmp_path)
    assert ran.code == 2
    assert "no valid certificate of client1" in ran.err and "--token" in ran.err
    enrolled(tmp_path, "client1", authority_in(tmp_path, now=NOW - 40 * DAY), now=NOW - 40 * DAY)
    assert "expired at" in run(capsys, "certs", "renew", "client1", "--certs", tmp_path).err


def test_a_hospital_whose_coordinator_is_away_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(tmp_path, "client1", authority_in(tmp_path))
    ran = run(capsys, "certs", "renew", "client1", "--certs", tmp_path, "--coordinator", "127.0.0.1:1")
    assert ran.code == 1
    assert "127.0.0.1:1 cannot be reached" in ran.err


def test_a_change_over_is_begun_watched_and_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = authority_in(tmp_path)
    workers = [enrolled(tmp_path, name, authority) for name in ("client1", "client2")]
    assert "No change-over" in run(capsys, "certs", "rotate", "--certs", tmp_path).out
    ran = run(capsys, "certs", "rotate", "--begin", "--certs", tmp_path)
    assert ran.code == 0 and "client1, client2 must have connected with a renewed certificate first" in ran.out
    renew(tmp_path, workers[0])
    show(tmp_path, workers[0])
    renew(tmp_path, workers[1])
    ran = run(capsys, "certs", "rotate", "--finish", "--certs", tmp_path)
    assert ran.code == 2
    assert "found client2 not seen yet with a certificate of the next authority" in ran.err
    assert authorities_in(tmp_path).current == authority.certificate
    show(tmp_path, workers[1])
    assert "every worker has shown its renewed certificate" in run(capsys, "certs", "rotate", "--certs", tmp_path).out
    ran = run(capsys, "certs", "rotate", "--finish", "--certs", tmp_path)
    assert ran.code == 0 and "retired" in ran.out
    assert authorities_in(tmp_path).retired == (authority.certificate,)
    issuer = read_certificate(tmp_path / "coordinator" / "cert.pem").issuer
    assert issuer == authorities_in(tmp_path).current.subject


def test_workers_that_have_not_renewed_are_left_behind_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(tmp_path, "client1", authority_in(tmp_path))
    run(capsys, "certs", "rotate", "--begin", "--certs", tmp_path)
    assert run(capsys, "certs", "rotate", "--finish", "--certs", tmp_path).code == 2
    assert run(capsys, "certs", "rotate", "--finish", "--force", "--certs", tmp_path).code == 0


@needs_openssl
def test_a_site_that_cannot_follow_a_change_over_by_itself_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certs = tmp_path / "certs"
    authority_in(certs)
    pem = make_authority(tmp_path / "mary")
    run(capsys, "certs", "trust", pem, "--name", "client7", "--certs", certs)
    begun = run(capsys, "certs", "rotate", "--begin", "--certs", certs)
    for ran in (begun, run(capsys, "certs", "rotate", "--certs", certs)):
        (line,) = [each for each in ran.out.splitlines() if each.startswith("by hand")]
        assert "once those by hand have it" in ran.out
        assert "client7" in line and str(certs / "authority" / "next" / "ca.pem") in line and "--ca" in line
    ran = run(capsys, "certs", "rotate", "--finish", "--certs", certs)
    assert (ran.code, "client7, to be told by hand" in ran.err) == (2, True)
    assert run(capsys, "certs", "rotate", "--finish", "--force", "--certs", certs).code == 0


def test_an_encrypted_authoritys_successor_is_encrypted_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDNET_AUTHORITY_PASSPHRASE", "five random words it is")
    run(capsys, "certs", "init", "--certs", tmp_path)
    run(capsys, "certs", "rotate", "--begin", "--certs", tmp_path)
    assert b"ENCRYPTED" in (tmp_path / "authority" / "next" / "ca.key").read_bytes()
    assert run(capsys, "certs", "rotate", "--finish", "--certs", tmp_path).code == 0
    assert b"ENCRYPTED" in (tmp_path / "authority" / "ca.key").read_bytes()


@needs_openssl
def test_a_sites_authority_is_trusted_listed_and_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority_in(tmp_path / "certs")
    pem = make_authority(tmp_path / "mary")
    ran = run(capsys, "certs", "trust", pem, "--name", "client1", "--name", "client2", "--certs", tmp_path / "certs")
    assert ran.code == 0
    assert fingerprint_of(read_certificate(pem))[:16] in ran.out and "client1, client2" in ran.out
    assert run(capsys, "certs", "trust", "--certs", tmp_path / "certs").out == ran.out
    refused = run(capsys, "certs", "token", "client1", "--certs", tmp_path / "certs")
    assert (refused.code, "a site's own authority speaks for" in refused.err) == (2, True)
    ran = run(capsys, "certs", "trust", "--remove", "--name", "client1", "--certs", tmp_path / "certs")
    assert ran.code == 0 and "for client1" in ran.out
    revoked = RevocationLedger(tmp_path / "certs").current()
    assert revoked.reason("client1", "") == "the authority that spoke for it is trusted no more"
    assert revoked.reason("client2", "") is None
    assert [each.names for each in trusted_in(tmp_path / "certs")] == [(WorkerName("client2"),)]
    assert run(capsys, "certs", "trust", pem, "--remove", "--certs", tmp_path / "certs").code == 0
    assert trusted_in(tmp_path / "certs") == []
    run(capsys, "certs", "trust", pem, "--name", "client1", "--certs", tmp_path / "certs")
    assert list(RevocationLedger(tmp_path / "certs").current().names) == ["client2"], "client1 is let in again"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["renew", "coordinator", "--coordinator", "10.0.0.5"], "Run it at the centre"),
        (["renew", "client1", "--public-host", "x"], "expected certs renew coordinator"),
        (["renew", "coordinator"], "certs init"),
        (["rotate", "--begin", "--finish"], "found both"),
        (["rotate", "--force"], "found no --finish"),
        (["rotate", "--begin"], "certs init"),
        (["rotate"], "no PEM certificate"),
        (["trust", "--name", "client1"], "found no FILE"),
        (["trust", "--remove"], "found nothing"),
        (["trust", "nothing", "--name", "client1"], "no PEM certificate"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    ran = run(capsys, "certs", *arguments, "--certs", tmp_path)
    assert ran.code == 2
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1


@needs_openssl
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--ca"], "expected all three or none"),
        (["--ca", "--cert", "--key", "--token", "x"], "found --cert as well"),
        (["--ca", "--cert", "--key", "--id", "client2"], "found worker client1; expected client2, by --id"),
        (["--ca", "--key", "--cert=ca.pem"], "the URI urn:fednet:worker:NAME"),
        (["--ca", "--cert", "--key=ca.key"], "not usable with its key"),
        (["--cert", "--key", "--ca=nothing.pem"], "no readable certificate"),
    ],
)
def test_a_certificate_of_ones_own_that_cannot_be_used_is_one_line_before_anything_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], complaint: str
) -> None:
    for name in CLASSES:
        (tmp_path / "client1_data" / name).mkdir(parents=True)
    mary = tmp_path / "mary"
    pem = make_authority(mary)
    files = issue(mary, "client1")
    files.authority.write_bytes(pem.read_bytes())
    paths = {"--ca": files.authority, "--cert": files.certificate, "--key": files.key}
    arguments: list[object] = []
    for each in change:
        option, equals, name = each.partition("=")
        arguments += [option, mary / name] if equals else [each, paths[each]] if each in paths else [each]
    ran = run(capsys, "worker", "join", "--data", tmp_path / "client1_data", "--certs", tmp_path / "c", *arguments)
    assert ran.code == 2
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "c").exists()
