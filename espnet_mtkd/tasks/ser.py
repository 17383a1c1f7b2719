"""ESPnet task: train a speech emotion classifier (a teacher, or the multilingual baseline)."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.tasks.abs_task import AbsTask, IteratorOptions
from espnet2.train.class_choices import ClassChoices
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.dataset import AbsDataset
from espnet2.train.preprocessor import AbsPreprocessor
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str2bool, str_or_none

from espnet_mtkd.data.ark import check_index
from espnet_mtkd.data.labels import HIDDEN
from espnet_mtkd.distill.hints import HintLoss
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.encoders import ConformerEncoder, ConvEncoder
from espnet_mtkd.models.head import LinearHead, MLPHead
from espnet_mtkd.models.layers import LayerWeighting, Standardize
from espnet_mtkd.models.pooling import AbsPooling, MeanPooling, StatsPooling
from espnet_mtkd.models.ser_model import ESPnetSERModel, max_samples
from espnet_mtkd.models.upstream import Upstream
from espnet_mtkd.tasks.dataset import FilterBanks, MeanHints, MemoryDataset
from espnet_mtkd.tasks.optimizers import set_learning_rates
from espnet_mtkd.tasks.trainer import SERTrainer
from espnet_mtkd.yaml_numbers import check_number, with_numbers

frontend_choices = ClassChoices(
    "frontend",
    dict(s3prl=Upstream, conv=ConvEncoder, conformer=ConformerEncoder),
    type_check=AbsFrontend,
    default="s3prl",
)
ON_FILTER_BANKS = ("conv", "conformer")
pooling_choices = ClassChoices(
    "pooling", dict(mean=MeanPooling, stats=StatsPooling), type_check=AbsPooling, default="mean"
)
normalize_choices = ClassChoices("normalize", dict(global_mvn=Standardize), default=None)
head_choices = ClassChoices("head", dict(linear=LinearHead, mlp=MLPHead), default="linear")
model_choices = ClassChoices("model", dict(ser=ESPnetSERModel), default="ser")


class LabelPreprocessor(AbsPreprocessor):
    """Turn the names of emotion and language into indices; a hidden emotion is -1.

    Args:
        train: ESPnet's flag; nothing here depends on it.
        names: for each data name the list of its values, in order.
    """

    def __init__(self, train: bool, names: dict[str, Sequence[str]]) -> None:
        super().__init__(train)
        self.index = {name: {v: i for i, v in enumerate(vs)} for name, vs in names.items()}

    def __call__(self, uid: str, data: dict[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        """Replace labels by arrays of one index."""
        for name, index in self.index.items():
            if name in data:
                value = str(data[name])
                if name == "emotion" and value == HIDDEN:
                    data[name] = np.array([-1], dtype=np.int64)
                    continue
                if value not in index:
                    raise UserError(
                        f"utterance {uid}: {name} {value!r} is not one of {', '.join(index)}"
                    )
                data[name] = np.array([index[value]], dtype=np.int64)
        return data


def read_names(value: str | Sequence[str] | None, option: str) -> list[str]:
    """Return a list of names: the lines of a file, or the list that a saved config holds."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if value is None or not Path(value).is_file():
        raise UserError(f"--{option} {value}: must be a file with one name on each line")
    names = Path(value).read_text(encoding="utf-8").split()
    if not names or len(set(names)) < len(names):
        raise UserError(f"{value}: must hold at least one name, and none twice")
    return names


def read_info(path: str, option: str) -> dict[str, Any]:
    """Return what is known of stored features, from their info.json."""
    if not Path(path).is_file():
        raise UserError(f"--{option} {path}: no such file; stage 4 writes it")
    return json.loads(Path(path).read_text(encoding="utf-8"))


def construct(option: str, cls: type, *args: Any, **conf: Any) -> Any:
    """Build ``cls(*args, **conf)``; an option that it does not know is the user's mistake."""
    check_options(option, cls, *args, **conf)
    return cls(*args, **conf)


def check_options(option: str, cls: type, *args: Any, **conf: Any) -> None:
    """Check that ``cls(*args, **conf)`` is possible."""
    try:
        inspect.signature(cls).bind(*args, **conf)
    except TypeError as error:
        raise _refusal(option, cls, error) from None


def check_names(option: str, cls: type, conf: dict[str, Any]) -> None:
    """Check that a class knows the options of ``conf``, which need not be all that it needs."""
    try:
        inspect.signature(cls).bind_partial(**conf)
    except TypeError as error:
        raise _refusal(option, cls, error) from None


def _refusal(option: str, cls: type, error: TypeError) -> UserError:
    return UserError(f"{option}: {error}; {cls.__name__}{inspect.signature(cls)}")


class SERTask(AbsTask):
    """Emotion classification with any S3PRL upstream, from waveforms or stored features.

    Data names: ``speech`` (waveforms, or stored pooled layers), ``emotion`` and ``language``
    (the names, from ``utt2emotion`` and ``utt2lang``); for ``model_conf: hint_lambda`` also
    ``hint``, the frames (Frames, H) of the last layer of an upstream.
    """

    num_optimizers = 1
    class_choices_list = [
        frontend_choices,
        pooling_choices,
        normalize_choices,
        head_choices,
        model_choices,
    ]
    trainer = SERTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of the model and of its labels."""
        group = parser.add_argument_group("Task related")
        parser.get_default("required").extend(["emotions", "languages"])
        parser.set_defaults(best_model_criterion=[("valid", "uar", "max")])
        group.add_argument(
            "--emotions", type=str_or_none, help="File with the emotions, one a line, in order"
        )
        group.add_argument(
            "--languages", type=str_or_none, help="File with the languages, one a line"
        )
        group.add_argument(
            "--feats_info",
            type=str_or_none,
            help="info.json of stored features; training from them then never loads the upstream",
        )
        group.add_argument(
            "--hints_info", type=str_or_none, help="info.json of the stored frames of an upstream"
        )
        group.add_argument(
            "--layers",
            type=lambda text: None if text == "all" else [int(i) for i in text.split(",")],
            help="Layers of the upstream in use, e.g. 0,3,-1; default: all",
        )
        group.add_argument(
            "--keep_in_memory",
            type=str2bool,
            default=None,
            help="Read every utterance once and keep it, with num_workers 0: stored features, "
            "waveforms (230 MB an hour) or, for an encoder on filter banks, those (115 MB); "
            "default: stored features only",
        )
        group.add_argument(
            "--module_lr",
            action=NestedDictAction,
            default=dict(),
            help="Learning rates of modules, e.g. frontend=1e-5; the others have the optimizer's",
        )
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train, with ``lr=1e-3`` as the number that it means."""
        # Groups of options only: ESPnet knows the types of the others, and a path stays a path.
        groups = {key: value for key, value in vars(args).items() if isinstance(value, dict)}
        vars(args).update(with_numbers(groups))
        data = {name for _, name, _ in args.train_data_path_and_name_and_type}
        weight = check_number("model_conf: hint_lambda", args.model_conf.get("hint_lambda", 0))
        if weight > 0 and not (args.hints_info and "hint" in data):
            raise UserError(
                "model_conf: hint_lambda needs the frames of an upstream: --hints_info, and hint "
                "in --train_data_path_and_name_and_type"
            )
        super().main_worker(args)

    @classmethod
    def model_options(cls) -> set[str]:
        """Return the options that make the model; the others are about data and training."""
        choices = {f"{c.name}{s}" for c in cls.class_choices_list for s in ("", "_conf")}
        return choices | {"emotions", "languages", "layers"}

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Pad waveforms with zeros."""
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)

    @classmethod
    def build_preprocess_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> LabelPreprocessor | MeanHints:
        """Map names of emotions and languages to indices, and hints to the encoder's frames."""
        labels = LabelPreprocessor(
            train,
            {
                "emotion": read_names(args.emotions, "emotions"),
                "language": read_names(args.languages, "languages"),
            },
        )
        info = cls.hints_info(args)
        if info is None:
            return labels
        encoder = cls.build_frontend(args)
        frames, rest = divmod(encoder.frame_shift, info["frame_shift"])
        if rest:
            raise UserError(
                f"--hints_info: the upstream's frames come every {info['frame_shift']} samples, "
                f"those of the encoder every {encoder.frame_shift}, which must be a multiple "
                "(frontend_conf: strides)"
            )
        return MeanHints(labels, frames)

    @classmethod
    def build_dataset(
        cls,
        args: argparse.Namespace,
        iter_options: IteratorOptions,
        keys_to_load: set[int | str] | None = None,
    ) -> AbsDataset:
        """Keep utterances in memory, as ``keep_in_memory`` says.

        Raises:
            UserError: an entry of a wav.scp or feats.scp is a command.
        """
        data = iter_options.data_path_and_name_and_type
        for path, _, kind in data:
            if kind in ("sound", "kaldi_ark"):  # ESPnet's readers run an entry with a pipe
                check_index(path)
        stored = any(name == "speech" and kind == "kaldi_ark" for _, name, kind in data)
        if not (stored if args.keep_in_memory is None else args.keep_in_memory):
            return super().build_dataset(args, iter_options, keys_to_load)
        preprocess = iter_options.preprocess_fn
        if not stored and args.frontend in ON_FILTER_BANKS and not cls.hears_waveforms(args):
            preprocess = FilterBanks(preprocess, max_samples(args.model_conf.get("max_duration")))
        dataset = MemoryDataset(
            data,
            preprocess=preprocess,
            float_dtype=args.train_dtype,
            max_cache_fd=iter_options.max_cache_fd,
            keys_to_load=keys_to_load,
        )
        cls.check_task_requirements(dataset, args.allow_variable_data_keys, iter_options.train)
        return dataset

    @classmethod
    def hears_waveforms(cls, args: argparse.Namespace) -> bool:
        """Whether the training needs the waveforms for more than an encoder on filter banks."""
        return args.model_conf.get("mixup", 0) > 0

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """At inference only the speech is needed."""
        return ("speech",) if inference else ("speech", "emotion", "language")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Hints; with them, the loss of the development set has their part too."""
        return ("hint",)

    @classmethod
    def build_frontend(cls, args: argparse.Namespace) -> AbsFrontend:
        """Build the upstream, or the encoder of the model's own, which alone can learn hints."""
        if cls.hints_info(args) is not None and args.frontend not in ON_FILTER_BANKS:
            raise UserError(
                f"frontend {args.frontend}: hints are for an encoder of the student's own "
                f"({', '.join(ON_FILTER_BANKS)})"
            )
        frontend = frontend_choices.get_class(args.frontend)
        return construct("frontend_conf", frontend, **args.frontend_conf)

    @staticmethod
    def hints_info(args: argparse.Namespace) -> dict[str, Any] | None:
        """Return what is known of stored frames, if any; ``args`` become portable on the way."""
        info = getattr(args, "hints_info", None)  # older configs do not have it
        if isinstance(info, str):
            args.hints_info = info = read_info(info, "hints_info")
        return info

    @classmethod
    def hint_loss(cls, args: argparse.Namespace, frontend: AbsFrontend) -> HintLoss | None:
        """Build what compares the frames of an encoder with those of an upstream, if there are."""
        info = cls.hints_info(args)
        if info is None:
            return None
        return HintLoss(frontend.output_size(), info["frontend_conf"]["hidden_size"])

    @classmethod
    def classifier(cls, args: argparse.Namespace) -> dict[str, Any]:
        """Build the arguments of a classifier; ``args`` become portable on the way."""
        args.emotions = read_names(args.emotions, "emotions")
        args.languages = read_names(args.languages, "languages")
        if args.feats_info is not None:
            info = read_info(args.feats_info, "feats_info")
            args.pooling = info["pooling"]
            args.frontend_conf = {**args.frontend_conf, **info["frontend_conf"]}
            args.feats_info = None
        frontend = cls.build_frontend(args)
        pooling = construct(
            "pooling_conf", pooling_choices.get_class(args.pooling), **args.pooling_conf
        )
        shape = (frontend.num_layers, pooling.output_size(frontend.output_size()))
        normalize = None
        if args.normalize is not None:
            normalize = construct(
                "normalize_conf",
                normalize_choices.get_class(args.normalize),
                shape,
                **args.normalize_conf,
            )
            args.normalize_conf = {}  # from here on the statistics are in the state dict
        layers = [args.layers] if isinstance(args.layers, int) else args.layers  # from a YAML file
        head = head_choices.get_class(args.head)
        parts = dict(
            emotions=args.emotions,
            languages=args.languages,
            frontend=frontend,
            pooling=pooling,
            normalize=normalize,
            layer_weighting=LayerWeighting(frontend.num_layers, layers),
            head=construct("head_conf", head, shape[1], len(args.emotions), **args.head_conf),
            hint_loss=cls.hint_loss(args, frontend),
        )
        for name in parts.keys() & args.model_conf.keys():
            raise UserError(f"model_conf: {name}: has an option outside of model_conf")
        check_options("model_conf", ESPnetSERModel, **parts, **args.model_conf)
        return {**parts, **args.model_conf}

    @classmethod
    def check_conf(cls, args: argparse.Namespace) -> None:
        """Check what can be known of the options before there are data.

        Raises:
            UserError: a class that there is not, or an option that it does not have.
        """
        for choices in cls.class_choices_list:
            chosen = getattr(args, choices.name)
            if chosen is None:
                continue
            if chosen not in choices.classes:  # argparse looks at the command line only
                known = ", ".join(choices.classes)
                raise UserError(f"{choices.name}: {chosen}: must be one of {known}")
            option = f"{choices.name}_conf"
            check_names(option, choices.get_class(chosen), getattr(args, option))

    @classmethod
    def build_optimizers(
        cls, args: argparse.Namespace, model: torch.nn.Module
    ) -> list[torch.optim.Optimizer]:
        """As ESPnet does it, with learning rates of their own for ``--module_lr``."""
        optimizers = super().build_optimizers(args, model)
        set_learning_rates(optimizers[0], model, args.module_lr)
        return optimizers

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetSERModel:
        """Build the classifier."""
        return ESPnetSERModel(**cls.classifier(args))
