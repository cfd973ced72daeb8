"""A multi-head network on labels alone on scikit-learn's digits: the control without a teacher.

python -m ensdistill.main --config=configs/multi_head_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('multi_head', 'digits')
