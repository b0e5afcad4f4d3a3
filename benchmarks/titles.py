"""What the page calls a loss: the title that its measure declares, and the size at which it is measured."""

import agnoreg

SIZES = {"lncc": "windows of 9³", "gmi": "23 bins"}


def _written(name, title):
    title = title[:1].upper() + title[1:]
    return f"{title}, {SIZES[name]}" if name in SIZES else title


TITLES = {name: _written(name, cls.title) for name, cls in agnoreg.registered_losses().items()}
