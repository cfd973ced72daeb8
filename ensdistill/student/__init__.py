"""The student as a product: predictions with checked inputs, its folder, its report."""
