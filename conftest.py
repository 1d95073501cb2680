"""What is tested is the installed package.

`python -m pytest` puts the checkout first on the path, where the package has no compiled modules, unless it was built in place.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent
if not list((ROOT / "fastdrop" / "_core").glob("native.*.so")):
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
