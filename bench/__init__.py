"""The benchmark: what is measured (`cases.toml`), by whom (`contenders/`), how (`measure`, `worker`, `run`), and the report.

In the checkout this folder is `bench/`; installed it is the package `fastdrop.bench`. Its modules import each other relatively.
"""
