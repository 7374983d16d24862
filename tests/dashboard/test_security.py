import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from fednet.dashboard.security import POLICY, Access, Guard, cookie_of, host_of

TOKEN = "a-token-that-nobody-guesses"
OPEN = Access(hosts=["127.0.0.1", "localhost", "[::1]"])
LOCKED = Access(hosts=["centre.example"], token=TOKEN)
COOKIE, KEPT = cookie_of(TOKEN)


def client(access: Access, *, base_url: str = "http://127.0.0.1:8733") -> AsyncClient:
    inner = Starlette(routes=[Route("/", lambda request: PlainTextResponse("the page"))])
    return AsyncClient(transport=ASGITransport(Guard(inner, access)), base_url=base_url)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:8733", "localhost"),
        ("LOCALHOST", "localhost"),
        ("[::1]:8733", "[::1]"),
        ("[::1]", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
    ],
)
async def test_the_host_is_what_stands_before_the_port(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8733", "localhost.evil", "127.0.0.2", ""])
async def test_another_host_is_refused(host: str) -> None:
    answer = await client(OPEN).get("/", headers={"host": host})
    assert answer.status_code == 403
    assert "is not this page's" in answer.json()["error"]


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1:8733", "[::1]:8733", "LocalHost"])
async def test_our_own_hosts_are_let_in(host: str) -> None:
    assert (await client(OPEN).get("/", headers={"host": host})).text == "the page"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_nothing_can_be_changed(method: str) -> None:
    answer = await client(OPEN).request(method, "/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/missing"])
async def test_every_response_has_the_safety_headers(path: str) -> None:
    for host in ("127.0.0.1", "evil.example"):
        headers = (await client(OPEN).get(path, headers={"host": host})).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


async def test_the_policy_lets_no_inline_script_run_and_nothing_leave() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in POLICY and "http" not in POLICY


@pytest.mark.parametrize("path", ["/", "/?token=wrong", f"/?token={TOKEN}x", "/?token="])
async def test_without_the_token_nothing_is_shown(path: str) -> None:
    answer = await client(LOCKED, base_url="https://centre.example:8733").get(path)
    assert answer.status_code == 401
    assert "a token is needed" in answer.json()["error"] and TOKEN not in answer.text


async def test_the_printed_address_opens_the_page_and_leaves_a_cookie_but_no_token_in_the_address() -> None:
    browser = client(LOCKED, base_url="https://centre.example:8733")
    answer = await browser.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(f"{COOKIE}={KEPT};".lower()) and COOKIE.startswith("__Host-")
    assert TOKEN not in answer.headers["set-cookie"], "who reads a browser's cookies learns no token"
    for part in ("httponly", "samesite=strict", "secure", "path=/"):
        assert part in cookie
    assert "domain" not in cookie
    assert (await browser.get("/")).text == "the page"
    assert (await browser.get(f"/?token={TOKEN}")).status_code == 303, "again: the address is cleaned"


@pytest.mark.parametrize("cookie", [f"{COOKIE}=wrong", f"{COOKIE}={TOKEN}", f"other={KEPT}", "=;;=", f"{COOKIE}"])
async def test_another_cookie_opens_nothing(cookie: str) -> None:
    browser = client(LOCKED, base_url="https://centre.example:8733")
    assert (await browser.get("/", headers={"cookie": cookie})).status_code == 401


@pytest.mark.parametrize("other", ['name="a b', "a[0]=1", "x=caf\u00e9", "{json}", "=", f"{COOKIE[:-1]}=other-page"])
async def test_another_program_s_cookie_locks_nobody_out(other: str) -> None:
    browser = client(LOCKED, base_url="https://centre.example:8733")
    for line in (f"{other}; {COOKIE}={KEPT}", f"{COOKIE}={KEPT}; {other}"):
        assert (await browser.get("/", headers={b"cookie": line.encode()})).text == "the page"


async def test_two_pages_of_one_host_do_not_log_each_other_out() -> None:
    other = Access(hosts=["centre.example"], token="the token of the page on another port")
    browser, second = (client(each, base_url="https://centre.example") for each in (LOCKED, other))
    second.cookies = browser.cookies
    await browser.get(f"/?token={TOKEN}")
    await second.get("/", params={"token": str(other.token)})
    assert [(await each.get("/")).text for each in (browser, second)] == ["the page"] * 2


async def test_a_machine_may_send_the_token_as_a_bearer() -> None:
    browser = client(LOCKED, base_url="https://centre.example:8733")
    assert (await browser.get("/", headers={"authorization": f"Bearer {TOKEN}"})).text == "the page"
    assert (await browser.get("/", headers={"authorization": f"Basic {TOKEN}"})).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example", "///evil.example"])
async def test_nobody_is_sent_to_another_host(path: str) -> None:
    for access, base in ((OPEN, "http://127.0.0.1:8733"), (LOCKED, "https://centre.example")):
        answer = await client(access, base_url=base).get(f"{base}{path}?token={TOKEN}")
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/evil.example")


async def test_a_token_does_not_replace_the_right_host() -> None:
    answer = await client(LOCKED, base_url="https://evil.example").get(f"/?token={TOKEN}")
    assert answer.status_code == 403


async def test_a_door_does_not_show_its_token() -> None:
    assert TOKEN not in repr(LOCKED)
