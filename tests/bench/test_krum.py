import statistics

import pytest
import torch

from fednet.aggregation.rows import TensorRows
from fednet.bench import krum, memory
from fednet.bench.krum import KrumBench, bench_in_memory, byzantine_of, distances, honest_updates, multikrum
from fednet.errors import BadInput

CPU = torch.device("cpu")
TINY = KrumBench(workers=(5, 8), dim=5000, device=CPU, repeats=3)


def quiet(text: str) -> None:
    pass


def test_the_document_has_what_every_bench_has_and_a_run_for_each_count() -> None:
    document = bench_in_memory(TINY, notice=quiet)
    wanted = {"bench", "machine", "settings", "samples", "ours", "reference", "ratio", "meaning"}
    assert wanted <= set(document)
    assert document["bench"] == "krum"
    assert [run["workers"] for run in document["runs"]] == [5, 8]
    assert document["ratio"] == document["runs"][-1]["ratio"]


def test_figures_are_medians_of_interleaved_samples() -> None:
    document = bench_in_memory(TINY, notice=quiet)
    for run in document["runs"]:
        samples = document["samples"][str(run["workers"])]
        assert {key: len(values) for key, values in samples.items()} == dict.fromkeys(samples, 3)
        assert run["reference"] == statistics.median(samples["floor"])
        assert run["ours"] == statistics.median(samples["distances"])
        assert run["ratio"] == run["ours"] / run["reference"]
        assert run["seconds"]["whole"] > 0
        assert run["seconds"]["pairs"] > 0


def test_of_many_pairs_a_sample_is_timed_and_it_is_said() -> None:
    run = bench_in_memory(KrumBench(workers=(20,), dim=50, device=CPU, repeats=1), notice=quiet)["runs"][0]
    assert (run["pairs_timed"], run["pairs_in_all"]) == (20, 190)


def test_what_is_timed_is_right() -> None:
    updates = honest_updates(7, 3000, CPU)
    expected = torch.cdist(updates.double(), updates.double()).square()
    rows = TensorRows(updates)
    assert torch.allclose(distances(rows, CPU), expected, rtol=1e-5, atol=1e-12)
    assert float(torch.linalg.vector_norm(multikrum(rows, CPU) - updates.mean(dim=0))) < float(expected.max().sqrt())


def test_updates_that_would_not_fit_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(krum, "available_bytes", lambda: 100_000)
    with pytest.raises(BadInput, match="--from-spool"):
        bench_in_memory(TINY, notice=quiet)


@pytest.mark.parametrize("workers", [(), (2,), (10, 0)])
def test_too_few_updates_for_krum_are_refused(workers: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="--workers"):
        KrumBench(workers=workers, dim=10, device=CPU)


def test_f_is_the_largest_that_the_theorem_allows() -> None:
    assert [byzantine_of(count) for count in (3, 4, 5, 10, 32)] == [0, 0, 1, 3, 14]


def test_peak_memory_is_what_the_work_took_at_its_height() -> None:
    nbytes = 2**26

    def work() -> None:
        torch.ones(nbytes // 4)
        torch.ones(nbytes // 4)

    assert nbytes * 0.9 < memory.peak_bytes(work, CPU) < nbytes * 1.5


def test_this_machine_has_memory() -> None:
    assert memory.available_bytes() > 2**20
