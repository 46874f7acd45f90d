"""One export of each form of the graphs for all tests of the engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import pytest

from judo_edge.bundle import Bundle

if TYPE_CHECKING:
    from judo_edge.export.graphs import GraphForm


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[GraphForm], Bundle]:
    """Return a function from a form to its bundle, traced once."""
    from tests.engines import form_bundle, form_id

    @cache
    def traced(form: GraphForm) -> Bundle:
        return form_bundle(tmp_path_factory.mktemp(form_id(form)) / "bundle", form)

    return traced
