import pytest
from jinja2 import UndefinedError

from fednet.reporting.page import listed, markdown, page


def test_what_is_left_out_is_said() -> None:
    found = listed([1, 2, 3], most=2, what="workers", which="the worst")
    assert (found.rows, found.left_out) == ([1, 2], "Shown are 2 of 3 workers: the worst.")
    assert listed([1, 2], most=2, what="workers", which="the worst").left_out == ""
    assert (
        listed([1], most=2, what="rounds", which="the last", of=5000).left_out
        == "Shown are 1 of 5,000 rounds: the last."
    )


@pytest.mark.parametrize(
    "text",
    ["<script>x</script>", "![a](http://a.b/c.png)", "[a](http://a.b)", "<http://a.b>", "<img src=x onerror=y>"],
)
def test_markdown_brings_no_markup_of_its_own(text: str) -> None:
    found = str(markdown(f"# Title\n\n{text}\n\n| a |\n| --- |\n| {text} |\n"))
    assert not any(each in found for each in ("<script", "<a ", "<img", "src=x onerror=y>"))
    assert found.startswith("<h3>Title</h3>") and "<table>" in found


def test_a_page_without_all_it_shows_is_a_bug() -> None:
    with pytest.raises(UndefinedError):
        page("run.html", title="x")
