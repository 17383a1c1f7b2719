"""Label sets: which emotions an experiment has, and what each corpus calls them.

A label set is a YAML file::

    name: four
    emotions: [anger, happiness, neutral, sadness]   # left out: those of the chosen corpora, sorted
    corpora:
      emodb: {Wut: anger, Freude: happiness, ..., Ekel: null}   # null: left out on purpose
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from espnet_mtkd.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML that does not let the second of two equal keys win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name!r} twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class LabelSet:
    """Emotions in the order of the classes, and a map from each corpus's labels to them.

    Attributes:
        name: For example ``four``.
        emotions: The classes, in order; empty until :meth:`for_corpora` when the file names none.
        maps: By corpus: publisher's label -> emotion, or None for a label that is left out.
        path: The file.
    """

    name: str
    emotions: tuple[str, ...]
    maps: dict[str, dict[str, str | None]]
    path: Path

    @classmethod
    def load(cls, path: str | Path) -> LabelSet:
        """Read a label set.

        Raises:
            UserError: The file is missing, not YAML, or does not have the form above.
        """
        path = Path(path)
        try:
            with open(path, encoding="utf-8") as f:
                content = yaml.load(f, _Loader)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "cannot be parsed"
            raise UserError(f"{path}:{mark.line + 1 if mark else 1}: YAML: {problem}") from None
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            raise UserError(f"{path}: expected the keys name, emotions and corpora")
        unknown = sorted(map(str, content.keys() - {"name", "emotions", "corpora"}))
        if unknown:
            raise UserError(f"{path}: unknown key {unknown[0]!r}; known: name, emotions, corpora")
        emotions, corpora = content.get("emotions") or [], content.get("corpora")
        if not isinstance(emotions, list) or not all(_is_word(emotion) for emotion in emotions):
            raise UserError(f"{path}: emotions must be a list of words")
        if len(set(emotions)) < len(emotions):
            raise UserError(f"{path}: an emotion comes twice in {emotions}")
        if not isinstance(corpora, dict) or not corpora:
            raise UserError(f"{path}: corpora must map each corpus to its labels")
        for corpus, labels in corpora.items():
            if not isinstance(labels, dict) or not labels:
                raise UserError(f"{path}: {corpus}: expected 'label: emotion' pairs")
            for label, emotion in labels.items():
                # An unquoted N, no or 1 is not a string in YAML.
                if not _is_word(label):
                    raise UserError(f"{path}: {corpus}: label {label!r} is not a word; quote it")
                if emotion is not None and not _is_word(emotion):
                    raise UserError(f"{path}: {corpus}: {label}: {emotion!r} is not an emotion")
                if emotion is not None and emotions and emotion not in emotions:
                    raise UserError(
                        f"{path}: {corpus}: {label}: unknown emotion {emotion!r}; "
                        f"known: {' '.join(emotions)}; use null to leave the label out"
                    )
        return cls(content["name"], tuple(emotions), corpora, path)

    def for_corpora(self, corpora: Collection[str]) -> LabelSet:
        """The label set of an experiment with these corpora, its emotions settled.

        Raises:
            UserError: A corpus has no map.
        """
        for corpus in corpora:
            self._labels(corpus)
        if self.emotions:
            return self
        emotions = {e for corpus in corpora for e in self.maps[corpus].values() if e is not None}
        return replace(self, emotions=tuple(sorted(emotions)))

    def map(self, corpus: str, label: str) -> str | None:
        """The emotion of a publisher's label, or None when the label is left out.

        Raises:
            UserError: The corpus or the label is not in the file.
        """
        labels = self._labels(corpus)
        if label not in labels:
            raise UserError(
                f"{self.path}: corpus {corpus!r} has no entry for its label {label!r}; "
                f"map it to an emotion or to null (known labels: {' '.join(sorted(labels))})"
            )
        return labels[label]

    def _labels(self, corpus: str) -> dict[str, str | None]:
        if corpus not in self.maps:
            raise UserError(
                f"{self.path}: unknown corpus {corpus!r}; add its labels under 'corpora' "
                f"(there are: {' '.join(sorted(self.maps))})"
            )
        return self.maps[corpus]


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value != "" and not any(c.isspace() for c in value)
