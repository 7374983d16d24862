from pathlib import Path

from PIL import Image

from fednet.reporting.pictures import draw_class_mix


def test_a_class_mix_is_a_picture(tmp_path: Path) -> None:
    draw_class_mix(tmp_path / "mix.png", {"client1_data": [3, 0], "server_data/test": [1, 2]}, ("a", "b"))
    with Image.open(tmp_path / "mix.png") as picture:
        assert picture.width > 500
