from models.small_cnn import SmallCnn


def test_it_is_as_small_as_it_says() -> None:
    assert sum(parameter.numel() for parameter in SmallCnn(4).parameters()) == 85_332
