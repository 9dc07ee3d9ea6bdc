"""Decides which ``kaamos`` the tests and benchmarks import, before anything imports it.

``python -m pytest`` puts the checkout first on ``sys.path``. That is right where the extension was built
in place (``pip install -e``), and wrong after a plain ``pip install .``: then the checkout has no compiled
engine, and the installed package is the one to test. The checkout stays on the path, for ``tests.support``.
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != CHECKOUT]
if any((CHECKOUT / "kaamos").glob("_fastpath.*.so")):
    sys.path.insert(0, str(CHECKOUT))
else:
    sys.path.append(str(CHECKOUT))
