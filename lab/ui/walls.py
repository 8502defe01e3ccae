"""HTML of what a poisoned model does to those who use its pictures: detection, classifiers, votes, replication."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from lab.charts import Bar, Chart, Line, Point, bars, lines, shown
from lab.printing import duration
from lab.sides import DETECTORS, SETS
from lab.ui import words

CHANCE = 6  # look of a coin: black
COLUMNS = 3  # of charts: a detector each
MARKED = 10  # marks on a curve, or they hide it


def estimate(asked: str, seconds: float) -> str:
    """What it will take, before it starts. asked: which part this is."""
    return words.sentence(
        f"{asked}: about {duration(seconds)} on this device, as a few steps of it took. It can be stopped at any step."
    )


def _share(score: dict[str, Any] | None) -> str:
    """A table cell: a share with its interval and n."""
    return _cell(score, "{:.1%}")


def _cell(score: dict[str, Any] | None, form: str = "{:.3f}") -> str:
    if score is None:
        return "<td>–</td>"
    value, low, high = (form.format(score[key]) for key in ("value", "low", "high"))
    return f"<td>{value}<small>{low} … {high}</small><small>n = {score['n']:,}</small></td>"


def _table(head: Sequence[str], rows: Sequence[str], note: str) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return (
        f'<div class="scroll"><table class="scores"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{words.sentence(note)}"
    )


def _row(name: str, cells: str) -> str:
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _charts(charts: Sequence[Chart], label: str) -> str:
    # one pair of axes does not need the whole page
    alone = ' style="max-width: 44rem"' if len(charts) == 1 else ""
    return f'<div class="scroll"{alone}>{shown(lines, charts, label, columns=COLUMNS)}</div>'


def _says(name: str, score: dict[str, Any]) -> str:
    return f"{name} {score['value']:.4g} ({score['low']:.4g} to {score['high']:.4g}), n {score['n']}"


# 4. Detection ------------------------------------------------------------------------------------------------------


def detection(found: dict[str, Any]) -> str:
    """AUROC of each detector on the training set and on drawn pictures, the gain, ROC curves and the suspects."""
    by = {where: {row["detector"]["kind"]: row for row in found[where]} for where in SETS}
    kinds: list[str] = list(dict.fromkeys([*by["training"], *by["generated"]]))
    gained = {each["detector"]: each for each in found["gains"]}
    rows = [
        _row(
            DETECTORS.get(kind, kind),
            "".join(_cell(by[where].get(kind, {}).get("auroc")) for where in SETS) + _gain(gained.get(kind)),
        )
        for kind in kinds
    ]
    note = _screening(found)
    table = _table(["AUROC, 95 % intervals below", *SETS.values(), "gain"], rows, note)
    charts = [_roc(kind, {where: by[where].get(kind) for where in SETS}) for kind in kinds]
    return table + _charts(charts, "ROC curves of the detectors") + _suspects(found, by)


def _gain(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "<td>–</td>"
    apart = gain["low"] > 0 or gain["high"] < 0
    sign = "▲ easier" if apart and gain["gain"] > 0 else "▼ harder" if apart else "◦ no difference shown"
    return f"<td>{gain['gain']:+.3f}<small>{gain['low']:+.3f} … {gain['high']:+.3f}</small><small>{sign}</small></td>"


def _screening(found: dict[str, Any]) -> str:
    """How it was measured."""
    counts = [
        f"{SETS[where]}: {row['n']:,} pictures with a score, {row['poisoned']} of them with the trigger"
        for where in SETS
        for row in found[where][:1]
    ]
    row = next(row for where in SETS for row in found[where])
    return (
        f"0.5 is a coin, 1 finds every one. {'; '.join(counts)}. Each set trains a classifier of its own "
        f"({row['spec']['epochs']} epochs, seed {row['seed']}); pictures were drawn with guidance w = {found['guidance']:g}, "
        "and there the trigger judge says which carry the trigger."
    )


def _roc(kind: str, rows: dict[str, dict[str, Any] | None]) -> Chart:
    curves = [
        Line(f"{SETS[where]}, {row['auroc']['value']:.3f}", _thinned(row), look)
        for look, (where, row) in enumerate(rows.items())
        if row
    ]
    coin = Line("a coin, 0.5", [Point(0, 0), Point(1, 1)], CHANCE)
    name = DETECTORS.get(kind, kind)
    return Chart(name, "clean pictures under suspicion", "poisoned ones found", [*curves, coin], share=True)


def _thinned(row: dict[str, Any]) -> list[Point]:
    """Some points of a curve, both ends among them; each says the whole."""
    points, says = row["curve"], _says("AUROC", row["auroc"])
    step = max(1, (len(points) - 1) // MARKED)
    kept = [*points[:-1:step], points[-1]]
    return [Point(x, y, says=says) for x, y in kept]


def _suspects(found: dict[str, Any], by: dict[str, dict[str, Any]]) -> str:
    figures = []
    for name, source in found["pictures"].items():
        where, kind = name.split(" ", 1)
        row = by[where][kind]
        said = f"{DETECTORS.get(kind, kind)}, {SETS[where]}: {sum(row['caught'])} of these {len(row['caught'])} are poisoned"
        figures.append(
            f'<figure><img src="{source}" alt="most suspect pictures: {escape(said)}"><figcaption>{escape(said)}</figcaption></figure>'
        )
    return (
        f'<h3>The most suspect pictures</h3><div class="gallery">{"".join(figures)}</div>' if figures else ""
    )


# 5. Classifiers ----------------------------------------------------------------------------------------------------


def classifiers(found: dict[str, Any]) -> str:
    """Test accuracy and attack success of a classifier trained on each set, and what the drawn set took away."""
    panels = {
        title: [
            Bar(
                row["set_name"],
                row[key]["value"],
                row[key]["low"],
                row[key]["high"],
                _says(title, row[key]),
                k,
                k,
            )
            for k, row in enumerate(found["rows"])
        ]
        for title, key in (("Test accuracy", "test_accuracy"), ("Attack success", "attack_success"))
    }
    rows = [
        _row(
            row["set_name"],
            f"<td>{row['n']:,}</td><td>{row['poisoned'] / row['n']:.1%}</td>"
            f"{_share(row['test_accuracy'])}{_share(row['attack_success'])}",
        )
        for row in found["rows"]
    ]
    spec = found["rows"][0]["spec"]
    note = (
        f"One recipe for every set ({spec['epochs']} epochs, seed {spec['seed']}); the last state is measured, not the best. "
        "Attack success: held-out pictures of other classes that are read as the target once they carry the trigger."
    )
    table = _table(["trained on", "pictures", "with trigger", "test accuracy", "attack success"], rows, note)
    return f"{_drop(found['rows'])}<div class='scroll'>{shown(bars, panels, 'Test accuracy and attack success')}</div>{table}"


def _drop(rows: Sequence[dict[str, Any]]) -> str:
    """The wall in one sentence: the drawn set beside as many pictures of the training set."""
    if len(rows) < 2:
        return ""
    before, last = rows[-2], rows[-1]
    attack, right = (last[key]["value"] - before[key]["value"] for key in ("attack_success", "test_accuracy"))
    return words.sentence(
        f"Trained on drawn pictures instead of {before['set_name']}: attack success {100 * attack:+.1f} points, "
        f"test accuracy {100 * right:+.1f} points."
    )


# 6. The model as classifier ----------------------------------------------------------------------------------------


def votes(found: dict[str, Any]) -> str:
    """Accuracy and attack success of the diffusion classifier against p_filter."""
    parts = (("test_accuracy", "test accuracy"), ("attack_success", "attack success"))
    drawn = [
        Line(title, [_point(k, vote[key], title) for k, vote in enumerate(found["votes"])], look)
        for look, (key, title) in enumerate(parts)
    ]
    ticks = [(k, f"{100 * vote['p_filter']:g}%") for k, vote in enumerate(found["votes"])]
    chart = Chart(
        "The diffusion model as a classifier", "largest errors left out (p_filter)", "", drawn, True, ticks
    )
    rows = [
        _row(f"{100 * vote['p_filter']:g}%", _share(vote["test_accuracy"]) + _share(vote["attack_success"]))
        for vote in found["votes"]
    ]
    note = (
        f"The class under which {found['model']} denoises a picture best, over {found['spec']['draws']} even timesteps with "
        f"the same noise for every class (seed {found['spec']['seed']}). All rows are the same pictures."
    )
    table = _table(["p_filter", "test accuracy", "attack success"], rows, note)
    return _charts([chart], "Test accuracy and attack success by p_filter") + table


def _point(x: float, score: dict[str, Any], title: str) -> Point:
    return Point(x, score["value"], score["low"], score["high"], _says(title, score))


# 7. Replication ----------------------------------------------------------------------------------------------------


def replication(found: dict[str, Any]) -> str:
    """How like the training pictures each model's pictures are: a table, a scatter, and the nearest pairs."""
    first = found["rows"][0]
    rows = [
        _row(
            row["set_name"],
            _cell(row["likeness"])
            + "".join(f"<td>{value:.3f}</td>" for value in row["percentiles"].values())
            + _share(row["copies"])
            + _share(row["nearest_poisoned"])
            + _cell(row.get("distance"), "{:.1f}"),
        )
        for row in found["rows"]
    ]
    still = "".join(f"<td>{value:.3f}</td>" for value in first["background"].values())
    rows.append(
        _row("training pictures and their twins", f"<td>–</td>{still}<td>5.0%</td><td>–</td><td>–</td>")
    )
    head = [
        "likeness to the nearest training picture",
        "mean",
        *(f"{p} %" for p in first["percentiles"]),
        "copies",
        "nearest is poisoned",
        "feature distance",
    ]
    note = (
        f"Likeness by {first['describer']} to {first['trained_on']:,} training pictures; this is not SSCD, which the paper "
        f"uses, and its values cannot be compared with the paper's. Drawn with guidance w = {found['guidance']:g}. A copy is "
        "more like a training picture than 95 % of these are like their own twins. Feature distance is to held-out pictures."
    )
    charts = [_scatter(row) for row in found["rows"]]
    return _table(head, rows, note) + _charts(charts, "Likeness of the nearest pairs") + _nearest(found)


def _scatter(row: dict[str, Any]) -> Chart:
    clouds = [
        Line(
            name,
            [Point(pair["a_b"], pair["b_c"]) for pair in row["pairs"] if pair["poisoned"] == hit],
            look,
            loose=True,
        )
        for look, (name, hit) in enumerate((("B is clean", False), ("B is poisoned", True)))
    ]
    title = f"{row['set_name']}: the {len(row['pairs'])} nearest pairs"
    kept = [cloud for cloud in clouds if cloud.points]
    return Chart(title, "drawn A to training picture B", "B to its own twin", kept)


def _nearest(found: dict[str, Any]) -> str:
    figures = "".join(
        f'<figure><img src="{source}" alt="nearest pairs of {escape(name)}"><figcaption>{escape(name)}: above what it drew, '
        "below the nearest training picture</figcaption></figure>"
        for name, source in found["pictures"].items()
        if source
    )
    return f'<h3>The nearest pairs</h3><div class="gallery">{figures}</div>' if figures else ""
