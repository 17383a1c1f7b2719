"""Write how similar the grammars of languages are, for the weighting ``similarity``.

    pip install lang2vec "setuptools<81"
    python -m espnet_mtkd.bin.typology --teachers exp/.../logits_monolingual/teachers \
        --languages exp/.../languages --output relevance
    # and in a copy of conf/systems/mtkd_similarity.yaml: weighting_conf: {relevance: relevance}

The similarity is the cosine of the 103 syntactic features that URIEL knows or predicts (Littell et
al. 2017, https://aclanthology.org/E17-2002; data under CC BY-SA 4.0, in the package, nothing is
fetched). English has .90 with German, .86 with Italian and .62 with Urdu.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.tasks.mtkd import read_teachers
from espnet_mtkd.tasks.ser import read_names


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teachers", required=True, help="File of stage 6: a name and a language")
    parser.add_argument("--languages", required=True, help="File with the languages, one a line")
    parser.add_argument("--features", default="syntax_knn", help="Set of features in lang2vec")
    parser.add_argument("--output", required=True, help="Gets lines 'teacher language value'")
    return parser


def similarities(languages: Sequence[str], features: str) -> dict[tuple[str, str], float]:
    """Return the cosine of the features of any two languages.

    Args:
        languages: ISO 639-1 codes.
        features: name of a set of features, without gaps (``*_knn``).

    Raises:
        UserError: lang2vec is not there, or does not know a language or the set.
    """
    try:
        from lang2vec import lang2vec
    except ImportError as error:
        raise UserError(f'{error}: pip install lang2vec "setuptools<81"') from None
    if features not in lang2vec.FEATURE_SETS:
        raise UserError(f"--features {features}: must be one of {' '.join(lang2vec.FEATURE_SETS)}")
    codes = {language: lang2vec.LETTER_CODES.get(language, language) for language in languages}
    for language, code in codes.items():
        if code not in lang2vec.URIEL_LANGUAGES:
            raise UserError(f"language {language}: lang2vec does not know it")
    rows = lang2vec.get_features(list(codes.values()), features)
    try:
        vectors = {k: np.array(rows[code], dtype=float) for k, code in codes.items()}
    except ValueError:
        raise UserError(f"--features {features}: has gaps; take one that ends on _knn") from None
    unit = {language: vector / np.linalg.norm(vector) for language, vector in vectors.items()}
    return {(a, b): float(unit[a] @ unit[b]) for a in unit for b in unit}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file; a teacher of all languages is as near as one can be."""
    args = get_parser().parse_args(argv)
    teachers = read_teachers(args.teachers)
    languages = read_names(args.languages, "languages")
    own = {language for _, language, *_ in teachers} - {"all"}
    values = similarities(sorted({*languages, *own}), args.features)
    lines = [
        f"{teacher} {k} {values.get((language, k), 1.0):.6f}\n"
        for teacher, language, *_ in teachers
        for k in languages
    ]
    write_text(args.output, "".join(lines))


if __name__ == "__main__":
    cli(main)
