import pytest

from fednet.commands.worker import address_of
from fednet.errors import BadInput


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("centre.example", ("centre.example", 7733)),
        ("centre.example:80", ("centre.example", 80)),
        ("10.0.0.5:7734", ("10.0.0.5", 7734)),
        ("[::1]:7734", ("::1", 7734)),
        ("[2001:db8::5]", ("2001:db8::5", 7733)),
        ("2001:db8::5", ("2001:db8::5", 7733)),
        (None, ("127.0.0.1", 7733)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str | None, address: tuple[str, int]) -> None:
    assert address_of(text, None) == address


@pytest.mark.parametrize("text", ["", ":7733", "host:", "host:0", "host:70000", "host:port"])
def test_what_is_no_address_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(BadInput, match="HOST or HOST:PORT"):
        address_of(text, None)
