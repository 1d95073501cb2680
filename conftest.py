"""Make pytest test the installed package.

`python -m pytest` puts the checkout first on the path. Unless it was built in place, the package there has no compiled modules.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent
if not list((ROOT / "fastdrop" / "_core").glob("native.*.so")):
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
