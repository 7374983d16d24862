import pytest

from fednet import errors


def test_bad_input_is_one_line_with_found_expected_and_what_to_do() -> None:
    error = errors.BadInput("port 1", found="in use", expected="a free one", todo="choose another")
    assert str(error) == "port 1; found in use; expected a free one. Choose another"
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.DataError, 2),
        (errors.Refused, 2),
        (errors.ConnectionLost, 1),
        (errors.DiskFull, 1),
        (errors.RunParked, 1),
    ],
)
def test_exit_codes_follow_the_tree(kind: type[errors.FednetError], code: int) -> None:
    assert issubclass(kind, errors.FednetError)
    assert kind.exit_code == code
