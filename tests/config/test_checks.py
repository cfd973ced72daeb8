"""Checks: wrong settings fail in one line before anything compiles."""

import pytest
import tiny

from ensdistill.config import build, checks, recipes, settings


@pytest.mark.parametrize(
  'changes,message',
  [
    (
      {'student__kind': 'hydar'},
      r"unknown student 'hydar': did you mean 'multi_head'\? known: batch_ensemble, multi_head,",
    ),
    ({'student__kind': 'multihead'}, r"did you mean 'multi_head'\?"),
    ({'objective__name': 'dirichlett'}, "did you mean 'dirichlet'"),
    ({'perturb__name': 'confods'}, "did you mean 'conf_ods'"),
    ({'network__name': 'resnett'}, "did you mean 'resnet'"),
    ({'teacher__epochs': 3}, r'teacher.steps=6 and teacher.epochs=3: set exactly one'),
    ({'student__optimizer__schedule': 'cosin'}, "did you mean 'cosine'"),
    ({'objective__name': 'members'}, "set objective.name='mean', or student.kind='multi_head'"),
    ({'perturb__name': 'tdiv_sdiv'}, 'tdiv'),
    ({'perturb__name': 'tdiv', 'teacher__members': 1}, 'two'),
    ({'student__targets': 'stored', 'perturb__name': 'ods'}, "set student.targets='online'"),
    ({'student__targets': 'stored', 'augment__flip': True}, "set student.targets='clean_cache'"),
    (
      {'student__targets': 'clean_cache', 'augment__mixup': 0.2},
      "set student.targets='online' or augment.mixup=0",
    ),
    ({'augment__mixup': -0.2}, r'augment.mixup=-0.2 must be a finite number in \[0, 1,000\]'),
    ({'objective__name': 'none'}, 'set objective.label_weight=1'),
    ({'student__phases': 2}, "are for student.kind='multi_head'"),
    ({'student__members': 4}, "student.members=4 has no effect: student.kind='single' is one"),
    ({'objective__smoothing': 0.1}, "unknown setting of objective 'mean' 'smoothing'"),
    ({'student__view': 'averaged'}, "is for student.kind='batch_ensemble'"),
    ({'objective__label_weight': 2.0}, r'label_weight=2.0 must be a finite number in \[0, 1\]'),
    ({'network__depth': 20}, "unknown setting of mlp 'depth'"),
    ({'objective__name': 'normal_wishart'}, 'regression|gaussian'),
    ({'student__optimizer__factor_decay': 'one'}, 'set student.optimizer.factor_decay=none'),
    (
      {'teacher__optimizer__schedule': 'one_cycle', 'teacher__optimizer__warmup': 0.1},
      'set teacher.optimizer.warmup=0',
    ),
    (
      {'teacher__optimizer__name': 'adam', 'teacher__optimizer__momentum': 0.9},
      "unknown setting of optimizer 'adam' 'momentum'. known: none",
    ),
    (
      {'student__optimizer__name': 'adamw', 'student__optimizer__nesterov': False},
      "unknown setting of optimizer 'adamw' 'nesterov'. known: none",
    ),
    ({'seeds': 0}, r'seeds=0 must be a whole number in \[1, 10,000\]'),
    ({'data__workers': -1}, r'data.workers=-1 must be .*\(0 decodes in threads\)'),
    ({'data__stream': 'yes'}, "unknown data.stream 'yes'"),
    (
      {'augment__crop_area': 0.1, 'data__stream': 'off'},
      "augment.crop_area=0.1 .*: set data.stream='auto'",
    ),
    (
      {'augment__crop_area': 0.1, 'student__targets': 'stored'},
      r'augment is set \(crop_area\)',
    ),
    (
      {'student__batch_size': 100},
      r'batch_size=100 is larger than the training set \(48 examples\)',
    ),
  ],
)
def test_wrong_settings_fail_in_one_line(changes, message):
  config = tiny.config(**changes)
  training = tiny.dataset()
  with pytest.raises(ValueError, match=message) as error:
    tiny.checked_plan(config, training)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'changes,in_files,found',
  [
    ({}, False, 'stored'),
    ({}, True, 'online'),
    ({'perturb.name': 'gaussian'}, False, 'online'),
    ({'augment.flip': True}, False, 'online'),
    ({'objective.name': 'none', 'objective.label_weight': 1.0}, False, 'online'),
    ({'student.targets': 'clean_cache', 'augment.flip': True}, False, 'clean_cache'),
  ],
)
def test_targets_are_stored_by_themselves_only_where_that_is_exact(changes, in_files, found):
  config = recipes.named('kd_digits')
  assert config.student.targets == 'auto'
  config.update_from_flattened_dict(changes)
  settings.forget_replaced(config, set(changes))
  parts = build.parts(config)
  checks.check(config, parts)
  checks.settle_targets(config, parts, in_files)
  assert config.student.targets == found
  checks.check(config, parts)
