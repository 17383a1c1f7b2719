"""The readers of ``test_fuzz.py`` under atheris, whose inputs follow the coverage of their code.

    pip install atheris
    python test/trust/coverage_fuzz.py test_maps -max_total_time=300

Other options are libFuzzer's, such as a folder that keeps the inputs found; a rule that is broken
ends it with a traceback and status not 0.
"""

from __future__ import annotations

import sys

# Those that take nothing but what hypothesis gives them.
TESTS = ("test_maps", "test_data_directories", "test_label_sets", "test_configs", "test_archives")


def main() -> None:
    """Fuzz the test that is named."""
    if len(sys.argv) < 2 or sys.argv[1] not in TESTS:
        sys.exit(f"usage: coverage_fuzz.py {{{','.join(TESTS)}}} [libFuzzer's options]")
    import atheris  # here, since it is no package of the project

    with atheris.instrument_imports(include=["espnet_mtkd", "yaml"]):
        import test_fuzz
    one_input = getattr(test_fuzz, sys.argv[1]).hypothesis.fuzz_one_input
    atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
