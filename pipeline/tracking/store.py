"""Records every run in MLflow, and reads the runs back.

Three kinds of run, nested: a *command* (what the user asked for), a *training* (one recipe, data set and
seed, or an ensemble of trainings) and an *evaluation* (one training under one protocol). No metric is stored
without its protocol, profile, data set and code version: those are tags of its run.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.tracking.client import Client, apply_settings, without_secrets
from stages.dataset import DatasetInfo
from stages.journal import Record, protocol_of
from stages.measurement import TRAINING, Evaluation, Measurement
from stages.metrics import IMAGENET, METRICS

# The address for links if the store is a file: the default port of `make dashboard`.
DASHBOARD = "http://127.0.0.1:5000"
# The prefix of every experiment's name.
EXPERIMENTS = "ilsvrc/"

_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
# What the journal of every training records, besides its task's metrics.
_LOGGED = ("loss", "rate", "images_per_second")
_BATCH = 1000  # MLflow's limit on metrics per request


class Tracker:
    """A connection to a tracking store.

    Args:
        uri: the URI of an MLflow server or a database.
        artifacts: the folder for artifacts if the store is a local database; None for a server.

    Raises:
        PipelineError: the store cannot be reached or opened.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        apply_settings()
        self.uri = uri
        self._artifacts = artifacts
        self._client = Client(uri)
        self._client.search_experiments(max_results=1)

    def command(self, experiment: str, name: str, key: str, tags: Mapping[str, str]) -> str:
        """The run of a command, which contains its trainings; the same key returns the same run."""
        return self._open(
            self._experiment(experiment), name, {**tags, "kind": "command", "key": key}
        )

    def training(
        self,
        parent: str,
        name: str,
        recipe: Mapping[str, Any],
        dataset: DatasetInfo,
        tags: Mapping[str, str],
    ) -> str:
        """The run of a training, new or begun earlier; `name` is unique to it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        run_tags = {**tags, "kind": "training", "key": name, _PARENT: parent}
        run_id = self._open(self._experiment_of(parent), name, run_tags)
        if not self._client.get_run(run_id).data.params:
            params = [Param(key, value) for key, value in _flatten(recipe).items()]
            self._client.log_batch(run_id, params=params)
            self._client.log_inputs(
                run_id,
                [
                    DatasetInput(
                        Dataset(dataset.name, dataset.digest, "webdataset", dataset.source),
                        [InputTag("mlflow.data.context", "training")],
                    )
                ],
            )
        return run_id

    def log(self, run_id: str, records: Sequence[Record]) -> None:
        """Record the values in a training's journal, per step and per epoch.

        The store keeps each point once, however often it is sent.
        """
        from mlflow.entities import Metric as Value

        metrics = [
            Value(_logged_as(name, record), record[name], _ms(record), record["step"])
            for record in records
            for name in (*_LOGGED, *METRICS)
            if name in record
        ]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def trained(self, run_id: str, records: Sequence[Record]) -> None:
        """Record what a finished training measured itself, from the epochs in its journal."""
        from mlflow.entities import Metric as Value
        from mlflow.entities import RunTag

        epochs = [record for record in records if record["kind"] == "epoch"]
        if not epochs:
            return
        last = epochs[-1]
        values = training_figures(epochs)
        self._client.log_batch(
            run_id,
            metrics=[Value(f"final.{k}", v, _ms(last), 0) for k, v in values.items()],
            tags=[
                RunTag(
                    "finished_at",
                    datetime.fromtimestamp(last["time"], UTC).isoformat("T", "seconds"),
                ),
                RunTag("train_n", str(last.get("train_n", 0))),
            ],
        )

    def searched(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        best: str,
        metric: str,
        figures: Mapping[str, float],
    ) -> None:
        """Record a search for an arm's learning rate.

        Args:
            experiment: the name of the experiment.
            name: the name of the arm's run, unique to it.
            tags: the tags of that run.
            best: the id of the recipe with the best rate.
            metric: what the search went by.
            figures: by the factor on the rates; infinite ones are not recorded.
        """
        from mlflow.entities import Metric as Value

        run_tags = {**tags, "kind": "search", "key": f"search/{name}", "best": best}
        run_id = self._open(self._experiment(experiment), run_tags["key"], run_tags)
        now = int(datetime.now(UTC).timestamp() * 1000)
        finite = {factor: one for factor, one in figures.items() if math.isfinite(one)}
        self._client.log_batch(
            run_id,
            metrics=[Value(f"{metric}.rate_x{k}", v, now, 0) for k, v in finite.items()],
        )
        self.end(run_id)

    def searches(self) -> dict[tuple[str, str], str]:
        """Ids of the recipes with searched rates, by the id of the arm's own recipe and the data's digest."""
        return {
            (run.data.tags["recipe"], run.data.tags["dataset_digest"]): run.data.tags["best"]
            for run in self._search(["tags.kind = 'search'"])
        }

    def evaluation(self, training: str, result: Evaluation, predictions: Path) -> None:
        """Record an evaluation under its training or ensemble, with the file of its predictions.

        A result that has been recorded is not recorded again.
        """
        from mlflow.entities import Metric as Value
        from mlflow.entities import RunTag

        tags = self._client.get_run(training).data.tags
        key = f"{tags['key']}/{result.protocol}"
        inherited = {
            k: v
            for k, v in tags.items()
            if not k.startswith("mlflow.") and k not in ("kind", "key")
        }
        run_tags = {
            **inherited,
            "kind": "evaluation",
            "key": key,
            "training": tags["key"],
            "protocol": result.protocol,
            "n": str(result.n),
            _PARENT: training,
        }
        run_id = self._open(self._experiment_of(training), key, run_tags)
        run = self._client.get_run(run_id)
        recorded = {metric: run.data.metrics.get(metric) for metric in result.figures}
        if run.info.status == "FINISHED" and recorded == {
            metric: figure.value for metric, figure in result.figures.items()
        }:
            return
        now = int(datetime.now(UTC).timestamp() * 1000)
        values: dict[str, float] = {}
        for metric, figure in result.figures.items():
            values |= {
                metric: figure.value,
                f"{metric}_low": figure.low,
                f"{metric}_high": figure.high,
            }
        self._client.log_batch(
            run_id,
            metrics=[Value(name, value, now, 0) for name, value in values.items()],
            tags=[RunTag("finished_at", datetime.now(UTC).isoformat(timespec="seconds"))],
        )
        self._client.log_artifact(run_id, str(predictions))
        self.end(run_id)

    def begin(self, run_id: str) -> None:
        """Mark a run as running, even if it had ended before."""
        self._client.update_run(run_id, status="RUNNING")

    def end(self, run_id: str, status: str = "FINISHED") -> None:
        """Mark a run as ended: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._client.set_terminated(run_id, status)

    def forget(self, name: str, *, evaluations_only: bool) -> None:
        """Set aside the runs of a training that is repeated; they stay in the store, marked as deleted."""
        filters = [f"tags.training = '{name}'"] + [f"tags.key = '{name}'"] * (not evaluations_only)
        for run in self._search(filters):
            self._client.delete_run(run.info.run_id)

    def measurements(self) -> list[Measurement]:
        """Every measured figure, from the store alone.

        A metric that is not in `METRICS`, which a later version may have recorded, is left out.
        """
        measured = []
        for run in self._search(["tags.kind = 'evaluation'"]):
            if run.info.status != "FINISHED":
                continue
            values = run.data.metrics
            measured += [
                self._measurement(
                    run,
                    metric.name,
                    "val",
                    values[metric.name],
                    (values[f"{metric.name}_low"], values[f"{metric.name}_high"]),
                )
                for metric in METRICS.values()
                if metric.split == "val" and metric.name in values
            ]
        for run in self._search(["tags.kind = 'training'"]):
            for metric in METRICS.values():
                value = run.data.metrics.get(f"final.{metric.name}")
                if metric.split == "train" and value is not None:
                    interval = (value, value)
                    measured.append(self._measurement(run, metric.name, "train", value, interval))
        return measured

    def _measurement(
        self, run: Any, metric: str, split: str, value: float, interval: tuple[float, float]
    ) -> Measurement:
        tags = run.data.tags
        return Measurement(
            year=int(tags["year"]),
            paper=tags["paper"],
            recipe=tags["recipe_name"],
            model=tags["model"],
            nets=int(tags["nets"]),
            profile=tags["profile"],
            dataset=tags["dataset"],
            dataset_digest=tags["dataset_digest"],
            num_classes=int(tags["num_classes"]),
            split=split,
            protocol=tags.get("protocol", TRAINING),
            recipe_id=tags["recipe"],
            seed=int(tags["seed"]),
            metric=metric,
            value=value,
            ci_low=interval[0],
            ci_high=interval[1],
            n=int(tags["n"] if split == "val" else tags["train_n"]),
            run_name=tags.get("training", tags["key"]),
            code_version=tags["code"],
            finished_at=tags["finished_at"],
            url=self.url(run.info.experiment_id, run.info.run_id),
            deviations=tuple(filter(None, tags["deviations"].split("\n"))),
            # Runs from before benchmarks were recorded are all of ImageNet networks.
            benchmark=tags.get("benchmark", IMAGENET.name),
        )

    def predictions(self, measurement: Measurement) -> Path:
        """A local copy of the file with the predictions that give an evaluation's figures."""
        run_id = measurement.url.rsplit("/", 1)[-1]
        return Path(self._client.download_artifacts(run_id, f"{measurement.protocol}.parquet"))

    def experiment_url(self, name: str) -> str:
        """The page with an experiment's table of runs, rather than MLflow's page for GenAI."""
        return (
            f"{self._base()}/#/experiments/{self._experiment(name)}?workflowType=machine_learning"
        )

    def url(self, experiment_id: str, run_id: str) -> str:
        """The page of a run."""
        return f"{self._base()}/#/experiments/{experiment_id}/runs/{run_id}"

    def _base(self) -> str:
        base = self.uri if urlsplit(self.uri).scheme in ("http", "https") else DASHBOARD
        return without_secrets(base).rstrip("/")

    def _search(self, filters: Sequence[str]) -> list[Any]:
        # A server may hold other people's experiments, whose tags have other meanings.
        experiments = self._client.search_experiments(filter_string=f"name LIKE '{EXPERIMENTS}%'")
        ids = [experiment.experiment_id for experiment in experiments]
        if not ids:
            return []
        runs: list[Any] = []
        for condition in filters:
            token = None
            while True:
                page = self._client.search_runs(ids, condition, max_results=500, page_token=token)
                runs += page
                token = page.token
                if not token:
                    break
        return runs

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = self._artifacts.as_uri() if self._artifacts is not None else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _experiment_of(self, run_id: str) -> str:
        return str(self._client.get_run(run_id).info.experiment_id)

    def _open(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        same = f"tags.key = '{tags['key']}' and tags.kind = '{tags['kind']}'"
        if "born" in tags:
            same += f" and tags.born = '{tags['born']}'"
        for run in self._client.search_runs([experiment_id], same, max_results=1):
            return str(run.info.run_id)
        run = self._client.create_run(experiment_id, run_name=name, tags={**tags, _NAME: name})
        return str(run.info.run_id)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, (tuple, list)) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                flat |= _flatten(item, f"{prefix}{key}.{index}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _ms(record: Record) -> int:
    return int(record["time"] * 1000)


def training_figures(epochs: Sequence[Record]) -> dict[str, float]:
    """What a training measured itself, from its journal's records of epochs."""
    last = epochs[-1]
    figures: dict[str, float] = {}
    for name, metric in METRICS.items():
        if metric.split != "train":
            continue
        if name in last:
            figures[name] = float(last[name])
        elif metric.reaches is not None and metric.reaches[0] in last:
            measured, goal = metric.reaches
            sign = METRICS[measured].sign
            reached = [record for record in epochs if sign * record[measured] <= sign * goal]
            # A run that never got there needs more epochs than it had.
            figures[name] = (*reached, last)[0]["epoch"] + 1
    return figures


def _logged_as(name: str, record: Record) -> str:
    """The store's name for a journal's value; the figure of a test includes its protocol."""
    tested = name in METRICS and METRICS[name].split == "val"
    return f"{name}.{protocol_of(record)}" if tested else name
