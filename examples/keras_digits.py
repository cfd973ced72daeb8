"""Distil an ensemble of Keras models on the digits; KERAS_BACKEND=jax needs no other library.

KERAS_BACKEND=jax python examples/keras_digits.py
ensdistill train hydra_digits --config.teacher.outputs=keras.npz --workdir=runs/keras
"""

import keras

from ensdistill import data, teachers


def member(x, y, seed: int, epochs: int = 20):
  keras.utils.set_random_seed(seed)
  layers = keras.layers
  hidden = layers.Flatten(), layers.Dense(64, 'relu')
  model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, layers.Dense(10)])
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(1e-2), loss)
  model.fit(x, y, batch_size=100, epochs=epochs, verbose=0)
  return model


def main() -> None:
  parts = data.parts('digits')
  x, y = (array[:600] for array in parts['train'])  # the other 200 are for validation
  models = [member(x, y, seed) for seed in range(4)]
  outputs = {part: teachers.from_keras(models, inputs) for part, (inputs, _) in parts.items()}
  teachers.save('keras.npz', **outputs)


if __name__ == '__main__':
  main()
