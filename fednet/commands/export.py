"""`cli.py export`: a saved model as a file that other software reads, checked, with its description beside it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.option("--model", type=click.Path(path_type=Path), required=True, help="A .pth of FedNet.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["safetensors", "onnx", "torchscript"]),
    required=True,
    help="The weights alone, or the whole network.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file; OUT.json beside it describes it."
)
def command(model: Path, form: str, out: Path) -> None:
    """Write the model in --model as --format; refused where its outputs are not those of PyTorch."""
    import hashlib

    from fednet.commands import wiring
    from fednet.errors import BadInput
    from fednet.storage.atomic import write_bytes, write_json
    from models.export import description, exported

    if out.is_dir() or out.resolve() == model.resolve():
        raise BadInput(
            f"--out {out}", found="a folder" if out.is_dir() else "the model itself", expected="another file"
        )
    saved = wiring.load_checkpoint(model)
    found = exported(saved, form)
    beside = out.with_name(f"{out.name}.json")
    described = description(saved, form) | {
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "file_sha256": hashlib.sha256(found.content).hexdigest(),
        "max_difference": found.max_difference,
        "software": wiring.software(),
    }
    write_bytes(out, found.content)
    write_json(beside, described)
    click.echo(
        f"{out}: {len(found.content) / 1e6:.1f} MB, described in {beside}; "
        f"its logits differ from PyTorch's by at most {found.max_difference:.1e}"
    )
