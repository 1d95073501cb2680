"""The benchmark.

`cases.toml` lists the cases and `contenders/` the libraries. `measure`, `worker` and `run` time them; `report` writes the page.
In the checkout this folder is `bench/`; installed, it is the package `fastdrop.bench`. Its modules use relative imports.
"""
