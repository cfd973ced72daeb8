"""Convert a pytree to a few large arrays and a JSON layout, and back."""

import math
from typing import Any

import jax
import numpy as np

# Orbax needs about 4 ms per array, so arrays below this size are joined.
PACKED_BYTES = 1 << 20


def named_leaves(tree):
  """Return [(path, leaf)] and the structure of a tree."""
  leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
  names = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves]
  return [(name, leaf) for name, (_, leaf) in zip(names, leaves)], structure


def is_key(leaf) -> bool:
  """Return whether a leaf is an array of typed random keys."""
  return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def describe(leaf) -> dict:
  """Return shape and type of a leaf, as the manifest holds them."""
  leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
  return {'shape': list(leaf.shape), 'dtype': str(leaf.dtype)}


def pack(state):
  """Return (layout, arrays): one entry per leaf; small arrays are joined to one vector per type."""
  layout: list[dict] = []
  arrays: dict[str, Any] = {}
  parts: dict[str, list[np.ndarray]] = {}
  for name, leaf in named_leaves(state)[0]:
    entry = {'name': name, 'array': None} | describe(leaf)
    if is_key(leaf):
      entry['key'] = str(jax.random.key_impl(leaf))
      leaf = jax.random.key_data(leaf)
      entry['words'] = leaf.shape[-1:]
    data = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    whole = not isinstance(data, jax.Array) or data.is_fully_addressable or data.is_fully_replicated
    if data.size and data.nbytes < PACKED_BYTES and whole:
      data = jax.device_get(data)
      vector = parts.setdefault(f'packed_{data.dtype}', [])
      entry |= {'array': f'packed_{data.dtype}', 'offset': sum(p.size for p in vector)}
      vector.append(data.ravel())
    elif data.size:
      entry['array'] = f'array_{len(layout)}'
      arrays[entry['array']] = data
    layout.append(entry)
  arrays |= {name: np.concatenate(vector) for name, vector in parts.items()}
  return layout, arrays or {'nothing': np.zeros(1)}  # Orbax refuses an empty tree


def unpack(arrays, layout, leaves):
  """Return the stored leaves in order, placed like `leaves`."""
  values = []
  for entry, (_, leaf) in zip(layout, leaves):
    shape = [*entry['shape'], *entry.get('words', [])]
    if entry['array'] is None:
      data = np.zeros(shape, entry['dtype'])
    elif 'offset' in entry:
      start = entry['offset']
      data = arrays[entry['array']][start : start + math.prod(shape)].reshape(shape)
    else:
      data = arrays[entry['array']]
    values.append(place(data, leaf, entry.get('key')))
  return values


def place(data, leaf, key=None):
  """Return data in the form of `leaf`: on its devices, as NumPy array or as Python number."""
  if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
    return data if isinstance(leaf, np.ndarray | np.generic) else type(leaf)(data)
  # An uncommitted array stays uncommitted, so it can move to the devices of other operands.
  sharding = leaf.sharding if getattr(leaf, 'committed', True) else None
  if isinstance(data, np.ndarray):
    if sharding is None or sharding.is_fully_addressable:
      data = jax.device_put(data, sharding)
    else:
      data = jax.make_array_from_callback(data.shape, sharding, data.__getitem__)
  return jax.random.wrap_key_data(data, impl=key) if key else data


def compare(layout, leaves, source):
  """Raise ValueError unless the layout has the names, shapes and types of `leaves`."""
  stored = {e['name']: f'{e["dtype"]}{e["shape"]}' for e in layout}
  wanted = {n: '{dtype}{shape}'.format(**describe(leaf)) for n, leaf in leaves}
  differences = [
    f'{name!r} is {stored.get(name, "absent")} in the checkpoint, '
    f'but {wanted.get(name, "absent")} in this run'
    for name in [*wanted, *(stored.keys() - wanted.keys())]
    if stored.get(name) != wanted.get(name)
  ]
  if differences:
    more = f' (and {len(differences) - 3} more)' if len(differences) > 3 else ''
    raise ValueError(
      f'checkpoint {source} does not match this run: {"; ".join(differences[:3])}{more}'
    )
  assert list(stored) == list(wanted), 'the leaves have another order'
