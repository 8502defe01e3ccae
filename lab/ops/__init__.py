"""The only verbs that page, command line and API may call, each with checked options and plain JSON results."""

from __future__ import annotations

from lab.archives import MAX_ZIP
from lab.compiling import WORKSHOP
from lab.explore import ExploreSpec
from lab.ops.again import again
from lab.ops.base import Operation, final
from lab.ops.bench import BenchOptions, bench
from lab.ops.compare import CompareOptions, compare
from lab.ops.data import OPEN_DATASETS, PeekOptions, peek
from lab.ops.exploring import (
    CompileOptions,
    LookOptions,
    compile_network,
    device_line,
    explore,
    look,
    pack,
    stored_exploration,
    warm_up,
)
from lab.ops.jobs import (
    RenameOptions,
    RunOptions,
    RunsOptions,
    SubmitOptions,
    WorkOptions,
    delete,
    plan,
    rename,
    resume,
    runs,
    show,
    stop,
    submit,
    watch,
    work,
)
from lab.ops.listing import TABLES, DescribeOptions, ListOptions, describe, list_things
from lab.ops.own import KeepOptions, PaintOptions, keep, paint, picture, upload, upload_set
from lab.ops.price import quick_price
from lab.ops.sampling import EvaluateOptions, SampleOptions, evaluate, sample
from lab.ops.training import TrainOptions, train
from lab.pictures import MAX_SET
from lab.recipe import QUICK
from lab.sampling import SAMPLERS
from lab.triggers import TARGETS, TRIGGERS

__all__ = [
    "MAX_SET",
    "MAX_ZIP",
    "OPEN_DATASETS",
    "OPERATIONS",
    "QUICK",
    "SAMPLERS",
    "TABLES",
    "TARGETS",
    "TRIGGERS",
    "WORKSHOP",
    "ExploreSpec",
    "Operation",
    "device_line",
    "final",
    "pack",
    "picture",
    "quick_price",
    "stored_exploration",
    "upload",
    "upload_set",
    "warm_up",
]

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("list", list_things, ListOptions),
        Operation("describe", describe, DescribeOptions),
        Operation("peek", peek, PeekOptions, public=False),
        Operation("sample", sample, SampleOptions, public=False),
        Operation("evaluate", evaluate, EvaluateOptions, public=False),
        Operation("train", train, TrainOptions, public=False),
        Operation("plan", plan, SubmitOptions, public=False),
        Operation("submit", submit, SubmitOptions, public=False),
        Operation("runs", runs, RunsOptions, public=False),
        Operation("show", show, RunOptions, public=False),
        Operation("watch", watch, RunOptions, public=False),
        Operation("compare", compare, CompareOptions, public=False),
        Operation("again", again, RunOptions, public=False),
        Operation("stop", stop, RunOptions, public=False),
        Operation("resume", resume, RunOptions, public=False),
        Operation("rename", rename, RenameOptions, public=False),
        Operation("delete", delete, RunOptions, public=False),
        Operation("work", work, WorkOptions, public=False),
        Operation("bench", bench, BenchOptions, public=False),
        Operation("compile", compile_network, CompileOptions, public=False),
        Operation("explore", explore, ExploreSpec),
        Operation("look", look, LookOptions),
        Operation("paint", paint, PaintOptions),
        Operation("keep", keep, KeepOptions, public=False),
    )
}
