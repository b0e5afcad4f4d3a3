"""agnoreg's classes in the place of MONAI's, as after a change of one import: MONAI's layout and constants."""

from functools import partial

from benchmarks.subjects import monai

build = partial(monai.build, module="agnoreg.compat.monai")
