"""An ESPnet ASR task that trains from Hugging Face streams.

Everything but the data is ESPnet's: model, optimiser, trainer, checkpoints, resume, ``config.yaml``. The options that
this adds are written into ``config.yaml`` beside ESPnet's own.
"""

from __future__ import annotations

import argparse

import torch
from espnet2.tasks.abs_task import optim_classes
from espnet2.tasks.asr import ASRTask
from espnet2.utils.types import str2bool, str_or_none

from hfprobe.asr.augment import check_speeds, register_specaug
from hfprobe.asr.half import train_in_bfloat16, wants_bfloat16
from hfprobe.asr.history import HistoryTrainer, check_history
from hfprobe.asr.iterators import StreamIterFactory
from hfprobe.asr.optim import by_width
from hfprobe.asr.start import start_recogniser
from hfprobe.asr.state_batches import StateIterFactory
from hfprobe.asr.states import load_states
from hfprobe.asr.teacher import teach
from hfprobe.asr.tokens import build_tokens
from hfprobe.asr.unpacked import channels_last, drop_in_training_only, unpack_lstms
from hfprobe.data import NoiseRecipe, SpeechStream, load_noise, weighted_corpora
from hfprobe.encoders.espnet.frontend import register
from hfprobe.errors import ConfigError

register()
register_specaug()


class StreamASRTask(ASRTask):
    """``ASRTask`` whose iterators read ``SpeechStream`` s.

    Run it with ``python -m hfprobe.asr.train --config conf/train.yaml --output_dir exp/NAME``.
    """

    trainer = HistoryTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        """Add ESPnet's own options and those of the stream (``--hf_...``) to a parser."""
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Hugging Face streams")
        group.add_argument("--hf_train", type=str, nargs="+", default=[], help="corpora, each NAME or NAME@WEIGHT")
        group.add_argument("--hf_valid", type=str_or_none, default=None, help="corpus for validation")
        group.add_argument("--hf_valid_limit", type=int, default=200, help="use only so many validation utterances")
        group.add_argument(
            "--hf_noise", type=str_or_none, default=None, help="noise folder, 'generated', 'local' or none"
        )
        group.add_argument("--hf_clean_share", type=float, default=0.25, help="share of utterances without noise")
        group.add_argument("--hf_batch", type=int, default=8, help="utterances per batch")
        group.add_argument("--hf_max_seconds", type=float, default=16.0, help="longer utterances are left out")
        group.add_argument(
            "--hf_pool", type=int, default=256,
            help="utterances read ahead, sorted by length and mixed; more where neighbours are one speaker's",
        )  # fmt: skip
        group.add_argument(
            "--hf_states", type=str, nargs="*", default=[],
            help="train the layers above on stored states (folders of hfprobe.asr.states) in place of sound",
        )  # fmt: skip
        group.add_argument("--hf_frames", type=int, default=1500, help="frames per batch of stored states")
        group.add_argument(
            "--hf_held", type=float, default=0.05, help="share of speakers to validate on, of the states"
        )
        group.add_argument("--hf_warp", type=float, default=0.0, help="states: greatest change of rate")
        group.add_argument(
            "--hf_shift", type=float, default=0.0, help="stored states: greatest shift in bands of a map"
        )
        group.add_argument("--hf_maps", type=int, default=1, help="states: feature maps")
        group.add_argument("--hf_workers", type=int, default=0, help="threads that read, decode and mix ahead")
        group.add_argument(
            "--hf_speeds", type=float, nargs="*", default=[],
            help="play each training utterance at one of these speeds, e.g. 0.9 1.0 1.1",
        )  # fmt: skip
        group.add_argument(
            "--hf_history", type=int, default=0,
            help="keep the weights at about N points of training, evenly spaced on a logarithmic axis, as "
            "<step>step.pth (0: none)",
        )  # fmt: skip
        group.add_argument(
            "--unpacked_lstm", type=str2bool, default=True, help="faster LSTMs and convolutions on CPUs, equal numbers"
        )
        group.add_argument(
            "--hf_bfloat16", type=str, default="false",
            help="train the encoder in bfloat16 arithmetic: true, false, or auto: where the CPU has instructions for "
            "it, as it is slower elsewhere",
        )  # fmt: skip
        group.add_argument(
            "--unit_start", type=str2bool, default=True, help="every layer starts with outputs of unit size"
        )
        group.add_argument(
            "--lr_by_width", type=str2bool, default=True, help="lower learning rate for matrices with many inputs"
        )
        group.add_argument(
            "--hf_teacher", type=str_or_none, default=None, help="trained recogniser whose frame posteriors are learnt"
        )
        group.add_argument("--hf_teacher_weight", type=float, default=0.9, help="the teacher's share of the loss")

    @classmethod
    def build_model(cls, args: argparse.Namespace):
        """ESPnet's model, with what the options add: a start at outputs of unit size, unpacked LSTMs, a teacher."""
        check_history(args)
        check_speeds(args.hf_speeds)
        model = super().build_model(args)
        if getattr(args, "unit_start", False):
            start_recogniser(model)
        drop_in_training_only(model)
        if getattr(args, "unpacked_lstm", False):
            unpack_lstms(model)
            channels_last(model)
        # config.yaml, which is written later, is to say what was done.
        args.hf_bfloat16 = str(wants_bfloat16(getattr(args, "hf_bfloat16", "false"))).lower()
        if args.hf_bfloat16 == "true":
            train_in_bfloat16(model.encoder)
        if getattr(args, "hf_teacher", None):
            teach(model, args.hf_teacher, args.hf_teacher_weight)
        return model

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: torch.nn.Module):
        """ESPnet's optimisers; with ``lr_by_width``, wide layers get smaller steps."""
        optimizers = super().build_optimizers(args, model)
        lr = args.optim_conf.get("lr")
        if not args.lr_by_width or lr is None or args.exclude_weight_decay:
            return optimizers
        groups = by_width(model, lr)
        # A one-cycle schedule overwrites the groups' rates by one peak unless it gets a peak for each.
        peak = (args.scheduler_conf or {}).get("max_lr")
        if isinstance(peak, float):
            args.scheduler_conf["max_lr"] = [peak * group["lr"] / lr for group in groups]
        return [optim_classes[args.optim](groups, **args.optim_conf)]

    @classmethod
    def build_iter_factory(cls, args, distributed_option, mode: str, kwargs: dict | None = None):
        """What gives the batches of an epoch: stored states (``--hf_states``), a stream, or what ESPnet has."""
        train = mode == "train"
        if args.hf_states:
            return StateIterFactory(
                [load_states(folder) for folder in args.hf_states],
                build_tokens(args.token_type, args.token_list, args.bpemodel),
                args.hf_frames, train, args.hf_held, args.hf_warp, args.hf_shift, args.hf_maps, args.seed,
                args.num_iters_per_epoch if train else None,
            )  # fmt: skip
        if not (args.hf_train if train else args.hf_valid):
            raise ConfigError(f"training needs corpora: give --hf_{'train' if train else 'valid'}")
        noise = None
        if args.hf_noise not in (None, "none"):
            noise = load_noise(None if args.hf_noise == "local" else args.hf_noise, part="train")
        stream = SpeechStream(
            weighted_corpora(args.hf_train) if train else args.hf_valid,
            batch_size=args.hf_batch if train else 2 * args.hf_batch,
            noise=noise,
            recipe=NoiseRecipe(clean_share=args.hf_clean_share),
            seed=args.seed,
            shuffle=train,
            pool=args.hf_pool,
            max_seconds=args.hf_max_seconds,
            limit=None if train else args.hf_valid_limit,
            rank=distributed_option.dist_rank or 0 if distributed_option.distributed else 0,
            world=distributed_option.dist_world_size or 1 if distributed_option.distributed else 1,
            workers=args.hf_workers,
        )
        tokens = build_tokens(args.token_type, args.token_list, args.bpemodel)
        if not train:
            return StreamIterFactory(stream, tokens)
        return StreamIterFactory(stream, tokens, args.num_iters_per_epoch, check_speeds(args.hf_speeds))
