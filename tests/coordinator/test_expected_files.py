import json
from dataclasses import replace

import pytest

from fednet.audit.run_files import history_findings
from fednet.commands.verify import read_model
from fednet.coordinator.expected_files import HISTORY, expected_histories
from fednet.coordinator.inspection import inspect
from tests.audit.finished import Site, make_run, settings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_run(tmp_path_factory.mktemp("site") / "made")


def test_a_run_of_a_version_with_fewer_settings_is_as_it_was_written(site: Site) -> None:
    verified = inspect(site.run, read_model=read_model, check_signature=site.check).verified
    assert verified is not None
    assert verified.settings is not None
    older = {name: value for name, value in verified.settings.items() if name not in ("guard", "server")}
    history = json.loads((site.run / HISTORY).read_text()) | {"settings": older}
    expected = expected_histories(replace(verified, settings=older), settings(), history, is_finished=True)
    assert history_findings(HISTORY, history, expected) == []
    newer = expected_histories(verified, settings(), history, is_finished=True)
    assert history_findings(HISTORY, history, newer) != []
