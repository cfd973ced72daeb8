"""Adapters for W&B, MLflow and trackio, which are extras: `pip install 'ensdistill[wandb]'`.

Each is set up by its own environment variables, such as WANDB_MODE=offline and MLFLOW_TRACKING_URI.
"""

import os
import re
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

PROJECT = 'ensdistill'


class Run(NamedTuple):
  """A run as trackers see it."""

  name: str
  folder: str
  settings: Mapping[str, Any]  # flat: {'teacher.members': 4}
  id: str | None = None  # in this tracker, if another process began the run


class Wandb:
  """Weights & Biases. Every stage has a step axis of its own, stage/step."""

  def __init__(self, run: Run):
    import wandb

    self.id = run.id or uuid.uuid4().hex[:8]
    self._wandb, self._stages = wandb, set[str]()
    self._run = wandb.init(
      project=os.environ.get('WANDB_PROJECT', PROJECT),
      name=run.name,
      id=self.id,
      resume='allow',
      dir=run.folder,
      config=dict(run.settings),
      settings=wandb.Settings(console='off', silent=True),
    )

  def scalars(self, step: int, values: Mapping[str, float], stage: str) -> None:
    if stage not in self._stages:
      self._stages.add(stage)
      self._run.define_metric(f'{stage}/step', hidden=True)
      self._run.define_metric(f'{stage}/*', step_metric=f'{stage}/step')
    found = {f'{stage}/{name}': value for name, value in values.items()}
    self._run.log(found | {f'{stage}/step': step})

  def text(self, name: str, text: str, step: int) -> None:
    del step
    escaped = text.replace('&', '&amp;').replace('<', '&lt;')
    self._run.log({name: self._wandb.Html(f'<pre>{escaped}</pre>')})

  def image(self, name: str, array_HWC, step: int) -> None:
    del step
    self._run.log({name: self._wandb.Image(array_HWC)})

  def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    self._run.config.update(dict(settings), allow_val_change=True)
    self._run.summary.update({f'final/{name}': value for name, value in metrics.items()})

  def close(self) -> None:
    self._run.finish()


class Mlflow:
  """MLflow; the experiment is MLFLOW_EXPERIMENT_NAME, by default 'ensdistill'."""

  def __init__(self, run: Run):
    import mlflow
    from mlflow import entities

    self._entities, self._client = entities, mlflow.MlflowClient()
    self._params: set[str] = set()
    self._finished = False
    if run.id:
      self.id = run.id
      self._params |= set(self._client.get_run(run.id).data.params)
      self._client.update_run(run.id, status='RUNNING')
    else:
      name = os.environ.get('MLFLOW_EXPERIMENT_NAME', PROJECT)
      experiment = self._client.get_experiment_by_name(name)
      own = experiment.experiment_id if experiment else self._client.create_experiment(name)
      self.id = self._client.create_run(own, run_name=run.name).info.run_id
    self._settings(run.settings)

  def scalars(self, step: int, values: Mapping[str, float], stage: str) -> None:
    self._metrics({f'{stage}/{name}': value for name, value in values.items()}, step)

  def text(self, name: str, text: str, step: int) -> None:
    self._client.log_text(self.id, text, f'{_plain(name)}.md')

  def image(self, name: str, array_HWC, step: int) -> None:
    self._client.log_image(self.id, array_HWC, f'{_plain(name)}.png')

  def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    self._settings(settings)
    self._metrics({f'final/{name}': value for name, value in metrics.items()}, 0)
    self._finished = True

  def close(self) -> None:
    """End the run, as failed where its final metrics are missing; continued, it runs again."""
    self._client.set_terminated(self.id, 'FINISHED' if self._finished else 'FAILED')

  def _metrics(self, values: Mapping[str, float], step: int) -> None:
    import time

    now = int(time.time() * 1000)
    found = [
      self._entities.Metric(_plain(name), float(value), now, step) for name, value in values.items()
    ]
    for at in range(0, len(found), 500):
      self._client.log_batch(self.id, metrics=found[at : at + 500])

  def _settings(self, settings: Mapping[str, Any]) -> None:
    """Log settings once each: MLflow refuses another value of a parameter."""
    new = {_plain(name): str(value) for name, value in settings.items()}
    new = {name: value for name, value in new.items() if name not in self._params}
    found = [self._entities.Param(name, value) for name, value in new.items()]
    for at in range(0, len(found), 100):
      self._client.log_batch(self.id, params=found[at : at + 100])
    self._params |= new.keys()


def _plain(name: str) -> str:
  """Return a name of the characters that MLflow allows."""
  return re.sub(r'[^\w\-. /]', '_', name)


class Trackio:
  """trackio, the local tracker of Hugging Face; the project is TRACKIO_PROJECT or 'ensdistill'."""

  def __init__(self, run: Run):
    import trackio

    self.id = run.id or f'{run.name}-{uuid.uuid4().hex[:8]}'  # its runs continue by their names
    self._trackio = trackio
    self._run = trackio.init(
      project=os.environ.get('TRACKIO_PROJECT', PROJECT),
      name=self.id,
      config=dict(run.settings),
      resume='allow',
      embed=False,
      auto_log_gpu=False,
      auto_log_cpu=False,
    )

  def scalars(self, step: int, values: Mapping[str, float], stage: str) -> None:
    found = {f'{stage}/{name}': value for name, value in values.items()}
    self._run.log(found | {f'{stage}/step': step})

  def text(self, name: str, text: str, step: int) -> None:
    self._run.log({name: self._trackio.Markdown(text)})

  def image(self, name: str, array_HWC, step: int) -> None:
    self._run.log({name: self._trackio.Image(array_HWC)})

  def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    del settings  # logged at the start
    self._run.log({f'final/{name}': value for name, value in metrics.items()})

  def close(self) -> None:
    self._run.finish()
