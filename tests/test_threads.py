import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from automerge.threads import one_thread


@pytest.mark.usefixtures("two_threads")
def test_threads_are_given_back_also_after_an_exception() -> None:
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2


def test_products_of_numpy_do_not_depend_on_the_threads_that_it_may_have() -> None:
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(400, 400)), rng.normal(size=(400, 300))

    def solved(threads: int) -> tuple[set[int], bytes]:
        with threadpool_limits(threads, user_api="blas"), one_thread():
            taken = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
            return taken, np.linalg.solve(A, b).tobytes()

    assert solved(1) == solved(2)
    assert solved(2)[0] == {1}
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            pass
        assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {2}
