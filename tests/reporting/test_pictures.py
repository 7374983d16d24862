from pathlib import Path

import torch
from PIL import Image

from fednet.reporting.pictures import draw_class_mix, draw_rebuilt


def test_a_class_mix_is_a_picture(tmp_path: Path) -> None:
    draw_class_mix(tmp_path / "mix.png", {"client1_data": [3, 0], "server_data/test": [1, 2]}, ("a", "b"))
    with Image.open(tmp_path / "mix.png") as picture:
        assert picture.width > 500


def test_what_was_rebuilt_is_drawn_beside_the_scan(tmp_path: Path) -> None:
    row = {"scan": (torch.zeros(1, 16, 16), ""), "rebuilt": (torch.ones(1, 16, 16), "3.0 dB")}
    draw_rebuilt(tmp_path / "rebuilt.png", [row, row])
    with Image.open(tmp_path / "rebuilt.png") as picture:
        grey = picture.convert("L").resize((8, 8), Image.Resampling.BOX)
        assert grey.getpixel((1, 2)) == 0
        assert grey.getpixel((6, 2)) == 255
