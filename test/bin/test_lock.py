from __future__ import annotations

import pytest

from espnet_mtkd.bin import lock
from espnet_mtkd.errors import UserError


def test_the_lock_is_the_files_and_ends_with_it(tmp_path):
    one, other = (open(tmp_path / ".lock", "w") for _ in range(2))
    argv = ["--expdir", "exp", "--fd"]
    lock.main([*argv, str(one.fileno())])
    with pytest.raises(UserError, match="^--expdir exp: another run is at work there$"):
        lock.main([*argv, str(other.fileno())])
    one.close()
    lock.main([*argv, str(other.fileno())])
    other.close()
