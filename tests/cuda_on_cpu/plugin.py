"""A pytest plugin, ``-p cuda_on_cpu.plugin``: NumPy's backend computes by the kernels, emulated."""

from agnoreg.backend import lookup

from . import EmulatedCard

CARD = EmulatedCard()


def pytest_configure(config):
    lookup._loaded["numpy"] = CARD


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"kernels emulated: {len(CARD.launched.names)} launches")
