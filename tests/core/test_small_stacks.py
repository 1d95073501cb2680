"""Every operation runs in a thread with a small stack, such as those of musl and of other languages."""

import pytest

STACK = 64 * 1024  # bytes

PROGRAM = """
    import sys, threading
    import numpy as np
    import fastdrop
    from fastdrop import elementary
    from fastdrop.verify.cases import DTYPES, OPS, TILE, Case, awkward, compute, laid_cases
    from fastdrop.verify.cases import past_caches, threads_on_small_arrays

    KEY = {{"seed": 1, "offset": 2}}
    REVERSED = (slice(None, None, -1),) * 3

    def kernels():
        for op in OPS:
            for case in (*laid_cases(op), Case(op, 3 * TILE + 3, 5), Case(op, 100, past_caches=True)):
                compute(case)

    def misaligned(x):
        memory = np.empty(x.nbytes + 1, np.uint8)
        out = memory[1:].view(x.dtype).reshape(x.shape)
        out[...] = x
        return out

    def layouts():
        for dtype in DTYPES:
            x = awkward(40 * 50 * 60, dtype).reshape(40, 50, 60)
            views = [x.T, x.transpose(0, 2, 1), x[..., ::2], x[REVERSED], x[1:, 2:, 3:], misaligned(x), x.T[:2], x.T[..., ::3]]
            for a in views:
                rates = np.full(a.shape, 0.3).T.copy().T
                flags = np.ones(a.shape, bool).T.copy().T
                for p in (0.3, rates, rates.astype(np.float32), rates[..., :1]):
                    for more in ({{}}, {{"bias": a[0, 0]}}, {{"residual": a}}, {{"bias": a[0, 0], "residual": a[::-1]}}):
                        fastdrop.dropout(a, p, **more, **KEY)
                        fastdrop.dropout(a, p, out=np.empty(a.shape[::-1], a.dtype).T, **more, **KEY)
                fastdrop.dropout(a, 0.3, shared_axes=1, **KEY)
                fastdrop.apply_mask(a, flags, 2.0)
                fastdrop.gaussian_dropout(a, 0.3, **KEY)
                fastdrop.concrete_dropout(a, 0.3, **KEY)

    def sums():
        for dtype in DTYPES:
            a = awkward(700 * 300, dtype).reshape(700, 300)
            fastdrop.gaussian_dropout_backward(a, log_alpha=np.zeros(300, a.dtype), x=a, **KEY)
            for maps in (a.reshape(7, 10, 10, 300), a.reshape(3, 7, 100, 100)):
                with past_caches():
                    fastdrop.spatial_concrete_dropout_backward(maps, maps, 0.3, **KEY)
                fastdrop.adl(maps, 0.5, **KEY)

    def functions():
        for dtype in ("float32", "float64"):
            x = awkward(10000, dtype)
            for name in ("exp", "log", "sigmoid", "logit", "softplus"):
                getattr(elementary, name)(x), getattr(elementary, name)(x[::2])

    def in_thread(work, failures):
        try:
            work()
        except BaseException as error:
            failures.append(repr(error))

    threading.stack_size({size})
    failures = []
    with np.errstate(all="ignore"), threads_on_small_arrays():
        for isa in fastdrop.config()["isas"]:
            for count in (1, 3):
                fastdrop.set_isa(isa)
                fastdrop.set_num_threads(count)
                thread = threading.Thread(target=in_thread, args=({work}, failures))
                thread.start()
                thread.join()
    sys.exit("; ".join(failures) or 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", ["kernels", "layouts", "sums", "functions"])
def test_operations(run_python, work):
    done = run_python(PROGRAM.format(size=STACK, work=work))
    assert (done.returncode, done.stderr) == (0, "")
