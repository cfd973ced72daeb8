"""The imports of a configuration, stored in it and in its student by name and digest."""

from ensdistill import plugins
from ensdistill.plugins import Part, Plugin


def parts_of(config) -> set[Part]:
  """Return the parts of a configuration."""
  return {
    ('student', config.student.kind),
    ('objective', config.objective.name),
    ('perturbation', config.perturb.name),
    ('network', config.network.name),
    ('network', config.student.network.name or config.network.name),
  }


def used(config) -> list[Plugin]:
  """Return the imports that a run needs."""
  return plugins.used(parts_of(config), plugins.named(config.imports))


def record(config) -> None:
  """Import what a configuration names, and store in it the imports that its parts need."""
  known = {plugin.place for plugin in plugins.loaded()}
  for place in plugins.named(config.imports):
    if place not in known:
      plugins.load(place, f'imports={place!r}')
  sections = (config.network, config.student.network)
  with config.unlocked():
    for section in sections:
      if section.name:
        section.name = plugins.network(section.name, f'network.name={section.name!r}')
    # A config file that registers parts is left out: the settings identify the run.
    found = [plugin for plugin in used(config) if plugin.named]
    for section in sections:
      part = 'network', section.name
      section.content = next((p.sha256 for p in found if part in p.parts), None)
    config.imports = ','.join(plugin.place for plugin in found) or None
    config.imports_content = ','.join(plugin.sha256 for plugin in found) or None


def stored(config) -> list[dict]:
  """Return the imports as a student stores them: names, digests and parts."""
  wanted = parts_of(config)
  return [
    {
      'name': plugin.name,
      'sha256': plugin.sha256,
      'parts': sorted(list(part) for part in plugin.parts & wanted),
    }
    for plugin in used(config)
  ]
