"""Linear algebra: agnoreg has no use for any, and array_api_compat wants one name."""


def lstsq(a, b, rcond=None):
    raise NotImplementedError
