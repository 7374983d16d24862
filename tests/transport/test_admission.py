from fednet.transport.admission import Admission


def test_connections_are_bounded_by_address_and_in_all() -> None:
    admission = Admission(most=3, most_per_address=2)
    assert [admission.enter("a"), admission.enter("a")] == [None, None]
    assert "this address" in str(admission.enter("a"))
    assert admission.enter("b") is None
    assert "3 unidentified" in str(admission.enter("c"))


def test_a_place_is_free_again_after_leaving() -> None:
    admission = Admission(most=1, most_per_address=1)
    admission.enter("a")
    admission.leave("a")
    assert admission.enter("a") is None
