"""What a configuration imports: recorded in it by name and digest, and in its student."""

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
  """Import what a configuration names, and write into it what its parts need, with digests."""
  known = {plugin.place for plugin in plugins.loaded()}
  for place in plugins.named(config.imports):
    if place not in known:
      plugins.load(place, f'imports={place!r}')
  sections = (config.network, config.student.network)
  with config.unlocked():
    for section in sections:
      if section.name:
        section.name = plugins.network(section.name, f'network.name={section.name!r}')
    # A config file that registers parts is not among them: its settings decide.
    found = [plugin for plugin in used(config) if plugin.named]
    for section in sections:
      part = 'network', section.name
      section.content = next((p.sha256 for p in found if part in p.parts), None)
    config.imports = ','.join(plugin.place for plugin in found) or None
    config.imports_content = ','.join(plugin.sha256 for plugin in found) or None


def stored(config) -> list[dict]:
  """Return what a student's file says of the imports: names, digests and parts."""
  wanted = parts_of(config)
  return [
    {
      'name': plugin.name,
      'sha256': plugin.sha256,
      'parts': sorted(list(part) for part in plugin.parts & wanted),
    }
    for plugin in used(config)
  ]
