"""Label sets: which emotions an experiment has, and what each corpus calls them.

A label set is a YAML file::

    name: four
    emotions: [anger, happiness, neutral, sadness]   # left out: those of the chosen corpora, sorted
    default: {anger: anger, ..., fear: null}         # null: left out on purpose
    corpora:
      emodb: {Wut: anger, Freude: happiness, ..., Ekel: null}
      baved: "its labels are levels of emotion"      # a reason: this corpus is refused

A corpus that is not listed goes through ``default``, whose keys are the canonical names: so a new
corpus, whose script yields canonical names, needs no entry. Without ``default`` it is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from espnet_mtkd.errors import UserError

# In utt2emotion: the label of this utterance must not be used.
HIDDEN = "<hidden>"
# A text may be no YAML, make an impossible date or number, or be nested without end.
NO_YAML = (yaml.YAMLError, ValueError, TypeError, RecursionError)


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
        default: Canonical name -> emotion or None, for corpora that are not in ``maps``.
        refused: By corpus: why this label set does not fit it.
    """

    name: str
    emotions: tuple[str, ...]
    maps: dict[str, dict[str, str | None]]
    path: Path
    default: dict[str, str | None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

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
        except NO_YAML as error:
            raise UserError(f"{path}: YAML: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            raise UserError(f"{path}: expected the keys name, emotions and corpora")
        known = ("name", "emotions", "default", "corpora")
        unknown = sorted(map(str, content.keys() - set(known)))
        if unknown:
            raise UserError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
        emotions, corpora = content.get("emotions") or [], content.get("corpora")
        if not isinstance(emotions, list) or not all(_is_word(emotion) for emotion in emotions):
            raise UserError(f"{path}: emotions must be a list of words")
        if len(set(emotions)) < len(emotions):
            raise UserError(f"{path}: an emotion comes twice in {emotions}")
        if not isinstance(corpora, dict) or not corpora:
            raise UserError(f"{path}: corpora must map each corpus to its labels")
        refused = {name: reason for name, reason in corpora.items() if isinstance(reason, str)}
        maps = {name: labels for name, labels in corpora.items() if name not in refused}
        default = content.get("default", {})
        if "default" in content:
            _check(f"{path}: default", default, emotions)
        for corpus, labels in maps.items():
            _check(f"{path}: {corpus}", labels, emotions)
        return cls(content["name"], tuple(emotions), maps, path, default, refused)

    def for_corpora(self, corpora: Collection[str] | Mapping[str, Collection[str]]) -> LabelSet:
        """The label set of an experiment with these corpora, its emotions settled.

        Args:
            corpora: Their names; or, by name, the labels that occur in each, which settles the
                emotions by what is there instead of by all that the file has for the corpus.

        Raises:
            UserError: A corpus is refused or unknown, or a label that occurs is unknown.
        """
        emotions = set()
        for corpus in corpora:
            labels = self._labels(corpus)
            occurring = corpora[corpus] if isinstance(corpora, Mapping) else labels
            emotions |= {self.map(corpus, label) for label in occurring}
        if self.emotions:
            return self
        return replace(self, emotions=tuple(sorted(emotions - {None})))

    def map(self, corpus: str, label: str) -> str | None:
        """The emotion of a publisher's label, or None when the label is left out.

        Raises:
            UserError: The corpus is refused or unknown, or the label is.
        """
        labels = self._labels(corpus)
        if label in labels:
            return labels[label]
        if corpus in self.maps:
            raise UserError(
                f"{self.path}: corpus {corpus!r} has no entry for its label {label!r}; "
                f"map it to an emotion or to null (known labels: {' '.join(sorted(labels))})"
            )
        raise UserError(
            f"{self.path}: corpus {corpus!r} is not listed under 'corpora' and its label {label!r} "
            f"is not a canonical name; either local/{corpus}.py yields one of "
            f"{' '.join(sorted(labels))}, or the corpus gets its own entry"
        )

    def _labels(self, corpus: str) -> dict[str, str | None]:
        if corpus in self.refused:
            raise UserError(f"{self.path}: corpus {corpus!r} does not fit: {self.refused[corpus]}")
        if corpus not in self.maps and not self.default:
            raise UserError(
                f"{self.path}: unknown corpus {corpus!r}; add its labels under 'corpora' "
                f"(there are: {' '.join(sorted(self.maps))})"
            )
        return self.maps.get(corpus, self.default)


def _check(where: str, labels: object, emotions: list[str]) -> None:
    if not isinstance(labels, dict) or not labels:
        raise UserError(f"{where}: expected 'label: emotion' pairs")
    for label, emotion in labels.items():
        # An unquoted N, no or 1 is not a string in YAML.
        if not _is_word(label):
            raise UserError(f"{where}: label {label!r} is not a word; quote it")
        if emotion is not None and not _is_word(emotion):
            raise UserError(f"{where}: {label}: {emotion!r} is not an emotion")
        if emotion is not None and emotions and emotion not in emotions:
            raise UserError(
                f"{where}: {label}: unknown emotion {emotion!r}; "
                f"known: {' '.join(emotions)}; use null to leave the label out"
            )


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value != "" and not any(c.isspace() for c in value)
