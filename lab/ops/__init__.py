"""The only verbs that page, command line and API may call, each with checked options and plain JSON results."""

from __future__ import annotations

from lab.archives import MAX_ZIP
from lab.compiling import WORKSHOP
from lab.explore import ExploreSpec
from lab.ops.again import again
from lab.ops.base import Operation, final
from lab.ops.bench import BenchOptions, bench
from lab.ops.castle import (
    CastleOptions,
    castle,
    castle_seconds,
    conditional_models,
    stored,
)
from lab.ops.compare import CompareOptions, compare, compare_seconds, from_cards
from lab.ops.data import OPEN_DATASETS, PeekOptions, peek
from lab.ops.diff import DiffOptions, diff
from lab.ops.exploring import (
    CompileOptions,
    LookOptions,
    compile_network,
    device_line,
    explore,
    explore_seconds,
    look,
    pack,
    stored_exploration,
    warm_up,
)
from lab.ops.export import zipped
from lab.ops.hub import HubOptions, RemoveOptions, discard
from lab.ops.hub import work as hub
from lab.ops.jobs import (
    AttendOptions,
    RenameOptions,
    RunOptions,
    RunsOptions,
    SubmitOptions,
    WorkOptions,
    attend,
    attend_seconds,
    delete,
    in_background,
    plan,
    plan_seconds,
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
from lab.ops.price import price
from lab.ops.sampling import (
    EvaluateOptions,
    SampleOptions,
    evaluate,
    evaluate_seconds,
    sample,
    sample_seconds,
)
from lab.ops.secret import HideOptions, RevealOptions, hide, hiding_models, reveal, reveal_seconds
from lab.ops.serving import UserOptions, ready, user
from lab.ops.sharing import (
    ExportOptions,
    ImportOptions,
    PublishOptions,
    bring_in,
    export,
    preview,
    proposed,
    publish,
    publish_as,
)
from lab.ops.studies import StudyOptions, study, study_seconds
from lab.ops.training import TrainOptions, train
from lab.pictures import MAX_SET
from lab.presets import PRESETS, filled, fitting, named
from lab.recipe import BY_NOISE
from lab.sampling import SAMPLERS
from lab.triggers import TARGETS, TRIGGERS

__all__ = [
    "BY_NOISE",
    "MAX_SET",
    "MAX_ZIP",
    "OPEN_DATASETS",
    "OPERATIONS",
    "PRESETS",
    "SAMPLERS",
    "TABLES",
    "TARGETS",
    "TRIGGERS",
    "WORKSHOP",
    "ExploreSpec",
    "Operation",
    "PublishOptions",
    "conditional_models",
    "device_line",
    "filled",
    "final",
    "fitting",
    "from_cards",
    "hiding_models",
    "in_background",
    "named",
    "pack",
    "picture",
    "preview",
    "price",
    "proposed",
    "publish_as",
    "ready",
    "stored",
    "stored_exploration",
    "upload",
    "upload_set",
    "warm_up",
    "zipped",
]

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("list", list_things, ListOptions),
        Operation("describe", describe, DescribeOptions),
        Operation("peek", peek, PeekOptions),
        Operation(
            "sample",
            sample,
            SampleOptions,
            closed=("trigger_file", "target_file", "out"),
            heavy=True,
            gpu=sample_seconds,
        ),
        Operation(
            "evaluate",
            evaluate,
            EvaluateOptions,
            closed=("fid", "reference"),
            heavy=True,
            gpu=evaluate_seconds,
        ),
        Operation("compare", compare, CompareOptions, closed=("fid", "out"), heavy=True, gpu=compare_seconds),
        Operation("study", study, StudyOptions, closed=("out", "launcher"), heavy=True, gpu=study_seconds),
        Operation(
            "castle", castle, CastleOptions, closed=("out", "launcher"), heavy=True, gpu=castle_seconds
        ),
        Operation("hide", hide, HideOptions, trains=True),
        Operation("reveal", reveal, RevealOptions, heavy=True, gpu=reveal_seconds),
        Operation("train", train, TrainOptions, public=False),
        Operation("plan", plan, SubmitOptions, closed=("out", "launcher"), heavy=True, gpu=plan_seconds),
        Operation("submit", submit, SubmitOptions, closed=("out", "launcher"), trains=True),
        Operation("runs", runs, RunsOptions),
        Operation("show", show, RunOptions),
        Operation("watch", watch, RunOptions, public=False),
        Operation("diff", diff, DiffOptions),
        Operation("again", again, RunOptions),
        Operation("stop", stop, RunOptions),
        Operation("resume", resume, RunOptions, trains=True),
        Operation("attend", attend, AttendOptions, public=False, trains=True, gpu=attend_seconds),
        Operation("rename", rename, RenameOptions),
        Operation("delete", delete, RunOptions),
        Operation("work", work, WorkOptions, public=False),
        Operation("user", user, UserOptions, public=False),
        Operation("bench", bench, BenchOptions, public=False),
        Operation("compile", compile_network, CompileOptions, public=False),
        Operation("explore", explore, ExploreSpec, heavy=True, gpu=explore_seconds),
        Operation("look", look, LookOptions),
        Operation("paint", paint, PaintOptions),
        Operation("keep", keep, KeepOptions, public=False),
        # a pickle is a choice of somebody who was warned
        Operation("hub", hub, HubOptions, closed=("allow_pickle",)),
        Operation("discard", discard, RemoveOptions),
        Operation("export", export, ExportOptions, public=False),
        Operation("import", bring_in, ImportOptions, public=False),
        Operation("publish", publish, PublishOptions, public=False),
    )
}
