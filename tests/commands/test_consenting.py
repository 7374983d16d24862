import json
from pathlib import Path

import pytest

from fednet.commands.door import Door
from fednet.config import WorkerName
from fednet.errors import CredentialError
from fednet.security.authority import open_or_create_authority
from fednet.security.pinning import Pins
from fednet.security.signing import fingerprint_of
from fednet.security.tokens import JoinToken
from tests.commands.running import run
from tests.security.certs import NOW, enrolled


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "client1_data").mkdir()
    return tmp_path


def agree(text: str, name: str = "worker.toml") -> None:
    Path(name).write_text(text)


def test_what_a_worker_agrees_to_is_said_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    without = run(capsys, "worker", "consent")
    assert (without.code, without.out.splitlines()[0]) == (
        0,
        "What this hospital agrees to (no worker.toml here: what holds anyway):",
    )
    agree("[training]\nmax_rounds = 7\n")
    found = run(capsys, "worker", "consent")
    assert "- Rounds of a run: at most 7." in found.out.splitlines()
    agree("[training]\nmax_rounds = 8\n", "other.toml")
    assert "at most 8" in run(capsys, "worker", "consent", "--consent", "other.toml").out


def test_a_demonstration_is_bound_by_no_file_that_happens_to_lie_here(capsys: pytest.CaptureFixture[str]) -> None:
    agree("[training]\nmax_rounds = 7\n")
    assert "any number" in run(capsys, "worker", "consent", "--consent", "none").out


def test_a_program_can_read_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    agree(f'[coordinator]\nauthority = "{"ab" * 32}"\n[time]\nhours = "20:00-06:00"\n[data]\nfolder = "x"\n')
    found = json.loads(run(capsys, "worker", "consent", "--json").out)
    assert found["authorities"] == ["ab" * 32]
    assert found["consent"]["hours"][0]["text"] == "20:00-06:00"
    assert found["sentences"]


def test_the_template_is_a_file_to_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    agree(run(capsys, "worker", "consent", "--template").out)
    assert run(capsys, "worker", "consent").code == 0


@pytest.mark.parametrize("command", [("consent",), ("join", "--data", "client1_data")])
def test_a_wrong_file_ends_every_command_with_one_line(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    agree("[training]\nmax_round = 7\n")
    ran = run(capsys, "worker", *command)
    assert ran.code == 2
    assert ran.err.startswith("Error: consent file worker.toml: [training]; found max_round; expected of models, ")
    assert len(ran.err.splitlines()) == 1


def test_a_file_that_is_named_and_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "worker", "join", "--data", "client1_data", "--consent", "none.toml")
    assert (ran.code, "none.toml; found No such file" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("signed", "options", "said"),
    [
        ('[data]\nfolder = "other"', (), "--data; found client1_data"),
        ("[training]\nmax_local_epochs = 2", ("--max-epochs", "3"), "--max-epochs; found 3"),
        ("[training]\nlearning_rate = [0, 0.1]", ("--max-lr", "0.2"), "--max-lr; found 0.2"),
        ('[training]\nmodels = "resnet18"', ("--model", "small-cnn"), "--model; found small-cnn; expected resnet18"),
        ("[data]\nshare_evaluation = false", ("--hold-out", "0.1", "--share-evaluation"), "--share-evaluation"),
        ("[machine]\nmax_threads = 2", ("--num-threads", "3"), "--num-threads; found 3"),
        ("[machine]\nmax_gpu_memory_gib = 2", ("--max-gpu-memory", "3"), "--max-gpu-memory; found 3"),
        ('[privacy]\ndp = "required"', (), 'dp = "required"'),
        (
            "[privacy]\nmax_epsilon = 2",
            ("--dp-epsilon", "3", "--dp-delta", "1e-5"),
            "--dp-epsilon; found 3; expected at most 2",
        ),
    ],
)
def test_an_option_of_join_may_only_narrow_the_file(
    capsys: pytest.CaptureFixture[str], signed: str, options: tuple[str, ...], said: str
) -> None:
    agree(signed)
    ran = run(capsys, "worker", "join", "--data", "client1_data", *options)
    assert ran.code == 2
    assert said in ran.err and "worker.toml agrees to" in ran.err


class Silent:
    """A link that remembers whether anything was said."""

    def __init__(self, certificate: bytes) -> None:
        self.certificate = certificate
        self.is_aborted = False

    def abort(self, reason: str) -> None:
        self.is_aborted = True


@pytest.mark.parametrize("is_enrolled", [True, False])
async def test_nothing_is_said_to_a_coordinator_that_was_not_agreed_to_whatever_the_token_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_enrolled: bool
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from fednet.security.authority import read_certificate
    from fednet.transport import tcp

    authority = open_or_create_authority(tmp_path / "certs", now=NOW)
    authority.ensure_coordinator([], now=NOW)
    name, workers = WorkerName("client1"), tmp_path / "worker"
    if is_enrolled:
        enrolled(tmp_path / "certs", name, authority)
        workers = tmp_path / "certs"
    shown = read_certificate(tmp_path / "certs" / "coordinator" / "cert.pem").public_bytes(Encoding.DER)
    link = Silent(shown)

    async def connect(*arguments: object, **options: object) -> Silent:
        return link

    monkeypatch.setattr(tcp, "connect", connect)
    token = JoinToken(
        name=name, host="coordinator.example", port=7733, secret=b"s" * 16, authority_der=authority.certificate_der
    )
    other = Pins(frozenset({"ab" * 32}))
    with pytest.raises(CredentialError, match="coordinator's authority; found SHA-256"):
        await Door(workers, name, "coordinator.example", 7733, token, pins=other).connect()
    assert link.is_aborted
    link.is_aborted = False
    if is_enrolled:
        agreed = Pins(frozenset({fingerprint_of(read_certificate(tmp_path / "certs" / "authority" / "ca.pem"))}))
        await Door(workers, name, "coordinator.example", 7733, token, pins=agreed).connect()
        assert not link.is_aborted
