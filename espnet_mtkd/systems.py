"""Systems: the ways to train a student, each a YAML file in ``conf/systems/``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from espnet_mtkd.data.labels import NO_YAML
from espnet_mtkd.errors import UserError
from espnet_mtkd.yaml_numbers import check_number, with_numbers

ROOT = Path(__file__).parent.parent


def find_file(path: str | Path) -> Path:
    """Return a file of the recipe in the current folder, or else of the project's own recipe."""
    for candidate in (Path(path), ROOT / path):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path}: no such file here or in {ROOT.name}/")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping."""
    try:
        content = yaml.safe_load(find_file(path).read_text(encoding="utf-8"))
    except NO_YAML as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold 'option: value' lines")
    return with_numbers(content)


@dataclasses.dataclass(frozen=True)
class System:
    """A way to train a student, from ``conf/systems/NAME.yaml``.

    Attributes:
        name: of the system.
        teachers: ``none``, ``monolingual`` (the teachers of stage 5) or ``ft`` (the multilingual
            baseline).
        teaching: ``cached`` (default): the teachers' logits are stored once; ``live``: the teachers
            run inside the training step and see what the student sees.
        options: what is left: options of the task, such as ``weighting``.
        hints: whether the encoder, one of the student's own, first learns from the frames of the
            upstream, see :class:`~espnet_mtkd.models.hint_model.ESPnetHintModel`; default false.
            With ``model_conf: hint_lambda`` it goes on learning them beside the labels.
    """

    name: str
    teachers: str
    teaching: str
    options: dict[str, Any]
    hints: bool = False

    @property
    def features(self) -> bool:
        """Whether the student learns the teachers' features as well as their logits."""
        return self._weight("distill_conf", "feature_lambda") > 0

    @property
    def frames(self) -> bool:
        """Whether the student goes on learning the frames of the upstream beside its labels."""
        return self is HINTS or self._weight("model_conf", "hint_lambda") > 0

    @property
    def taught(self) -> bool:
        """Whether the student has teachers of emotions."""
        return self.teachers in ("monolingual", "ft")

    def _weight(self, group: str, option: str) -> float:
        weight = self.options.get(group, {}).get(option, 0)
        return check_number(f"conf/systems/{self.name}.yaml: {option}", weight)

    @staticmethod
    def read(name: str) -> System:
        """Read the system's file."""
        known = sorted({p.stem for r in (Path(), ROOT) for p in r.glob("conf/systems/*.yaml")})
        if name not in known:
            raise UserError(f"--systems {name}: must be some of {', '.join(known)}")
        options = read_yaml(f"conf/systems/{name}.yaml")
        teachers = options.pop("teachers", None)
        if teachers not in ("none", "monolingual", "ft"):
            raise UserError(
                f"conf/systems/{name}.yaml: teachers {teachers!r}: must be none, monolingual or ft"
            )
        teaching = options.pop("teaching", "cached")
        if teaching not in ("cached", "live"):
            raise UserError(
                f"conf/systems/{name}.yaml: teaching {teaching!r}: must be cached or live"
            )
        if teaching == "live" and teachers == "none":
            raise UserError(f"conf/systems/{name}.yaml: teaching: live, but teachers: none")
        hints = options.pop("hints", False)
        if not isinstance(hints, bool):
            raise UserError(f"conf/systems/{name}.yaml: hints {hints!r}: must be true or false")
        for option, value in options.items():
            if option.endswith("_conf") and not isinstance(value, dict):
                raise UserError(
                    f"conf/systems/{name}.yaml: {option}: must hold 'option: value' lines"
                )
        system = System(name, teachers, teaching, options, hints)
        if system.frames and not hints:
            raise UserError(f"conf/systems/{name}.yaml: hint_lambda needs hints: true")
        return system


# Not one of the systems: the first stage of those with hints.
HINTS = System("hints", teachers="none", teaching="cached", options={})
