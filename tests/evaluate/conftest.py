"""What several tests of the command share."""

import pytest

from agnoreg.evaluate.cli import main


@pytest.fixture
def run(capsys):
    """Run the command; return its exit code and what it printed."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return run
