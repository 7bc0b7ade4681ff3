"""What tests of several modules of the data use."""

import pytest

from hilum.sources import Catalog
from hilum.sources.chexpert import CleanMetaData


@pytest.fixture(scope="session")
def real_catalog(chexpert_index) -> Catalog:
    """The Catalog of the real CheXpert index, cleaned with the default filters; without images."""
    return CleanMetaData(csv_path=chexpert_index, cache=False).catalog()
