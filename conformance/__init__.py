"""A conformance suite for adapters of agnoreg: any backend, against golden vectors and a plain reference.

``pytest conformance --backend torch --device cuda --report FILE`` in a checkout, ``python -m agnoreg_conformance
--backend torch`` where agnoreg is installed; `conftest` has the options. ``pytest --pyargs agnoreg_conformance`` checks
all registered backends and takes no option of this suite: pytest reads a package's options only from its path.
"""
