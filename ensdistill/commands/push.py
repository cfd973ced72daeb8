"""Upload a student's folder, with its card, to the Hugging Face Hub.

The repository is made if it does not exist, as a private one unless --public is given. It takes
`hf auth login`, or a token in HF_TOKEN.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from ensdistill.commands.usage import Parser, add_imports, fail, loaded_student, student_folder

FILES = ('README.md', 'config.json', 'weights.safetensors', 'model.stablehlo', 'student.seal')


def _parse(arguments, prog: str):
  about, *more = (__doc__ or '').split('\n\n')
  parser = Parser(prog=prog, description=about, epilog='\n'.join(more))
  parser.add_argument('student', metavar='STUDENT', help="a run's folder, or its folder student")
  parser.add_argument('repository', metavar='REPO', help='OWNER/NAME, or NAME of your own')
  parser.add_argument('--public', action='store_true', help='make a new repository public')
  parser.add_argument('--message', metavar='TEXT', help='message of the commit')
  add_imports(parser)
  return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill push') -> None:
  """Run the command with its arguments, those of the process by default."""
  options = _parse(arguments, prog)
  model = loaded_student(options.student, options.imports)
  folder = student_folder(options.student)
  try:
    import huggingface_hub
  except ImportError:
    fail(1, 'push needs huggingface_hub: pip install "ensdistill[hub]"')
  message = options.message or f'{model.spec["name"]}, by ensdistill'
  try:
    url = push(huggingface_hub.HfApi(), folder, options.repository, not options.public, message)
  except Exception as error:  # of the network, of permissions, of names
    fail(1, f'{options.repository}: {str(error) or repr(error)}')
  print(url)


def push(client: Any, folder: pathlib.Path, repository: str, private: bool, message: str) -> str:
  """Upload the files of a student to a repository, in one commit; return its address."""
  made = client.create_repo(repository, repo_type='model', private=private, exist_ok=True)
  name = getattr(made, 'repo_id', None) or repository
  client.upload_folder(
    repo_id=name,
    repo_type='model',
    folder_path=str(folder),
    allow_patterns=list(FILES),
    commit_message=message,
  )
  return f'https://huggingface.co/{name}'
