"""How much each teacher counts for each utterance.

A weighting is one small class; :data:`WEIGHTINGS` is the registry that ``--weighting`` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from espnet_mtkd.distill.gate import Gate, weigh
from espnet_mtkd.distill.opinions import Opinions, over_known
from espnet_mtkd.errors import UserError
from espnet_mtkd.yaml_numbers import check_number


class AbsWeighting(torch.nn.Module):
    """Mix K teachers.

    Args:
        teachers: name and language of every teacher; ``all`` for one of all languages.
        languages: names of the L languages, in the order of their indices.
    """

    def __init__(self, teachers: Sequence[tuple[str, str]], languages: Sequence[str]) -> None:
        super().__init__()
        self.teachers = [name for name, _ in teachers]
        self.languages = list(languages)
        own = [[float(of == language) for _, of in teachers] for language in languages]
        # (L, K): one where the teacher is of the language.
        self.register_buffer("own", torch.tensor(own), persistent=False)

    def by_language(self) -> torch.Tensor:
        """Weights (L, K): the teachers of a language in equal parts; all of them if it has none."""
        some = self.own.sum(-1, keepdim=True) > 0
        own = torch.where(some, self.own, torch.ones_like(self.own))
        return own / own.sum(-1, keepdim=True)

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return the weights (Batch, K); every row sums to one."""
        raise NotImplementedError


class _Tempered(AbsWeighting):
    """A softmax over the teachers with a temperature.

    Args:
        tau: the smaller, the nearer to choosing one teacher; default 0.25, the paper's.
    """

    def __init__(
        self, teachers: Sequence[tuple[str, str]], languages: Sequence[str], tau: float = 0.25
    ) -> None:
        super().__init__(teachers, languages)
        if check_number("weighting_conf: tau", tau) <= 0:
            raise UserError(f"weighting_conf: tau {tau}: must be above 0")
        self.tau = tau


class Uniform(AbsWeighting):
    """1 / K for every teacher."""

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return equal weights."""
        teachers = opinions.teachers
        return teachers.new_full(teachers.shape[:2], 1.0 / teachers.shape[1])


def _similarity(
    student: torch.Tensor, teachers: torch.Tensor, index: torch.Tensor | slice
) -> torch.Tensor:
    return F.cosine_similarity(student, teachers, dim=-1)


class Cosine(_Tempered):
    """softmax over k of cos(z[b], t_k[b]) / tau: trust the teacher that agrees with the student."""

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return one row per utterance."""
        similarity = over_known(_similarity, opinions.student, opinions.teachers)
        return (similarity / self.tau).softmax(-1)


class CosineBatch(_Tempered):
    """softmax over k of mean_b cos(z[b], t_k[b]) / tau: one vector for the batch, as the paper."""

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return the same row for every utterance of the batch."""
        similarity = over_known(_similarity, opinions.student, opinions.teachers).mean(0)
        return (similarity / self.tau).softmax(-1).expand(len(opinions.student), -1)


class Language(AbsWeighting):
    """The teachers of the utterance's language in equal parts; all of them if it has none."""

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return one row per utterance, the same for all of a language."""
        return self.by_language()[opinions.language].to(opinions.teachers.dtype)


class Label(_Tempered):
    """softmax over k of -CE(t_k[b], y[b]) / tau: trust the teacher that is right.

    Without a label all teachers count the same.
    """

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return one row per utterance."""
        teachers, emotion = opinions.teachers, opinions.emotion
        gold = emotion.clamp(min=0)[:, None, None].expand(-1, teachers.shape[1], 1)
        # A class that a teacher does not know has probability 0.
        log_posterior = teachers.masked_fill(teachers.isnan(), -torch.inf).log_softmax(-1)
        # Not infinite: if nobody knows the gold label, there still have to be weights.
        log_likelihood = log_posterior.gather(-1, gold).squeeze(-1).clamp(min=-1e6)
        log_likelihood = log_likelihood.masked_fill(emotion[:, None] < 0, 0.0)
        return (log_likelihood / self.tau).softmax(-1)


class LanguageIdentification(AbsWeighting):
    """The teachers of the languages that the student hears, by its own posterior.

    Needs a student with a language head (``model_conf: lid_lambda``).
    """

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return one row per utterance."""
        if opinions.language_posterior is None:
            raise UserError("weighting lid needs a language head: set model_conf: lid_lambda > 0")
        return opinions.language_posterior @ self.by_language()


class Fixed(AbsWeighting):
    """A given matrix of languages and teachers.

    Args:
        matrix: for every language the weights of teachers by name, 0 for those that are not named;
            rows are scaled to sum to one.
    """

    def __init__(
        self,
        teachers: Sequence[tuple[str, str]],
        languages: Sequence[str],
        matrix: dict[str, dict[str, float]],
    ) -> None:
        super().__init__(teachers, languages)
        strangers = sorted(set(matrix) - set(self.languages))
        if strangers:
            raise UserError(
                f"weighting_conf: matrix: {strangers[0]}: must be one of "
                f"{', '.join(self.languages)}"
            )
        rows = []
        for name in self.languages:
            row = matrix.get(name, {})
            unknown = sorted(set(row) - set(self.teachers))
            if unknown or not row or min(row.values()) < 0 or sum(row.values()) <= 0:
                raise UserError(
                    f"weighting_conf: matrix: {name}: {row}: must give some of "
                    f"{', '.join(self.teachers)} a weight, none below 0"
                )
            rows.append([row.get(teacher, 0.0) / sum(row.values()) for teacher in self.teachers])
        self.register_buffer("matrix", torch.tensor(rows), persistent=False)

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return one row per utterance, the same for all of a language."""
        return self.matrix[opinions.language]


class Similarity(_Tempered):
    """softmax over k of s(language of b, k) / tau, where s says how good teacher k is there.

    Args:
        relevance: s as a file that stage 6 writes: a line for each teacher and language with the
            teacher's UAR on the development set of the language; or any file of this form, for
            example with typological similarities (``python -m espnet_mtkd.bin.typology``). In a
            language without a line all teachers count the same.
        tau: default 0.1: ten points of UAR make a factor of e.
    """

    def __init__(
        self,
        teachers: Sequence[tuple[str, str]],
        languages: Sequence[str],
        relevance: str,
        tau: float = 0.1,
    ) -> None:
        super().__init__(teachers, languages, tau)
        values = read_relevance(relevance)
        # A language of unlabelled speech has no development set: nobody is better there.
        measured = {language for _, language in values}
        values.update({(t, k): 0.0 for k in set(self.languages) - measured for t in self.teachers})
        missing = [(t, k) for k in self.languages for t in self.teachers if (t, k) not in values]
        if missing:
            raise UserError(f"{relevance}: no line for teacher {missing[0][0]} on {missing[0][1]}")
        scores = [[values[teacher, k] for teacher in self.teachers] for k in self.languages]
        self.register_buffer("scores", torch.tensor(scores), persistent=False)

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return one row per utterance, the same for all of a language."""
        return (self.scores / self.tau).softmax(-1)[opinions.language]


class Learned(AbsWeighting):
    """A gate over the language and the teachers' outputs, fitted on speakers nobody was trained on.

    Args:
        gate: the gate as a file that stage 6 writes, see :class:`~espnet_mtkd.distill.gate.Gate`.
            Where it has not met a language, only the outputs count.
    """

    def __init__(
        self, teachers: Sequence[tuple[str, str]], languages: Sequence[str], gate: str
    ) -> None:
        super().__init__(teachers, languages)
        fitted = Gate.read(gate)
        if fitted.teachers != self.teachers:
            raise UserError(
                f"{gate}: a gate for {', '.join(fitted.teachers)}, but the teachers are "
                f"{', '.join(self.teachers)}"
            )
        rows = dict(zip(fitted.languages, fitted.table, strict=True))
        table = [rows.get(name, [0.0] * len(self.teachers)) for name in self.languages]
        self.register_buffer("table", torch.tensor(table), persistent=False)
        self.register_buffer("outputs", torch.tensor(fitted.outputs), persistent=False)

    def forward(self, opinions: Opinions) -> torch.Tensor:
        """Return one row per utterance."""
        teachers = opinions.teachers
        return weigh(self.table, self.outputs, opinions.language, teachers.to(self.table))


def read_relevance(path: str | Path) -> dict[tuple[str, str], float]:
    """Read lines ``teacher language value``."""
    if not Path(path).is_file():
        raise UserError(f"weighting_conf: relevance {path}: no such file")
    values = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            teacher, language, value = line.split()
            values[teacher, language] = float(value)
        except ValueError:
            raise UserError(f"{path}:{number}: must hold 'teacher language value'") from None
    return values


WEIGHTINGS: dict[str, type[AbsWeighting]] = {
    "uniform": Uniform,
    "cosine_batch": CosineBatch,
    "cosine": Cosine,
    "language": Language,
    "label": Label,
    "lid": LanguageIdentification,
    "fixed": Fixed,
    "similarity": Similarity,
    "learned": Learned,
}
