"""One message for each error that is a user's to fix, whatever has passed it on."""

import pytest
from torch._utils import ExceptionWrapper

from aaformer_lit.cli.messages import known_error
from aaformer_lit.errors import ImageError


def test_of_a_worker_process_its_words_are_told_without_its_traceback():
    says = "a.jpg cannot be decoded: it is truncated. Replace or remove the file. Or set data.on_bad_image=skip."
    try:
        raise ImageError(says) from OSError("it is truncated")
    except ImageError:
        passed_on = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(ImageError, match="Traceback") as caught:
        passed_on.reraise()
    assert str(known_error(caught.value)) == says
    assert str(known_error(ImageError(says))) == says
