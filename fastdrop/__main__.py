"""The command `fastdrop`, also as ``python -m fastdrop``."""

import sys


def main() -> None:
    """Run the command line, or print the package that it needs."""
    try:
        from fastdrop._cli.commands import cli
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"click", "rich"}:
            raise
        sys.exit(f'fastdrop: the command line needs {package}: pip install "fastdrop-kernels[cli]"')
    cli(prog_name="fastdrop")


if __name__ == "__main__":
    main()
