"""Run the examples of a page or of a docstring."""

import doctest
import re


def blocks_of(page, language="python"):
    """Return the text of each block of code of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def examples_of_blocks(blocks, names=None):
    """Return one doctest of all blocks, because a block continues the previous ones."""
    return doctest.DocTestParser().get_doctest("\n".join(blocks), names or {}, "page", "page", 0)


def run(test, clear_globs=True):
    """Return the number of examples of a doctest, all of which must pass."""
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=clear_globs)
    assert not result.failed, "".join(report)
    return result.attempted
