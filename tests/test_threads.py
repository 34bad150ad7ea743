import pytest
import torch

from automerge.threads import one_thread


@pytest.mark.usefixtures("two_threads")
def test_threads_are_given_back_also_after_an_exception() -> None:
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2
