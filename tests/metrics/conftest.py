"""How many axes masks have, and how far apart their voxels are."""

import pytest
from mask_pairs import SPACINGS


@pytest.fixture(params=[2, 3], ids=["2-D", "3-D"])
def dims(request):
    return request.param


@pytest.fixture
def spacing(dims):
    return SPACINGS[dims]
