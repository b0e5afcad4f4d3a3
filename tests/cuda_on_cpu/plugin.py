"""A pytest plugin, ``-p cuda_on_cpu.plugin``: NumPy's backend computes by the kernels, emulated."""

import agnoreg.backend

from . import EmulatedCard

CARD = EmulatedCard()


def pytest_configure(config):
    agnoreg.backend._loaded["numpy"] = CARD


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"kernels emulated: {len(CARD.launched.names)} launches")
